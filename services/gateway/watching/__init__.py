"""What those see who watch: live counts of every policy, over all processes of the gateway."""
