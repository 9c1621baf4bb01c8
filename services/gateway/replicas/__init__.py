"""The link to replicas, which attach and pull batches, and to the other processes of the gateway."""
