"""Where work is done: processes of this machine or Ray tasks, and the user's code in them."""
