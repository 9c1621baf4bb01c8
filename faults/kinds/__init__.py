"""What happens in the faults, by what it happens to."""
