"""What is told to those who watch: live counts of every policy, over all processes of the gateway."""
