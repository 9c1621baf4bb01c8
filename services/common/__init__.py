"""What all servers share: start and stop, errors to statuses, logs, the bundle's format."""
