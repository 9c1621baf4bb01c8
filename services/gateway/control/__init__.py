"""What is wanted, and bringing Ray Serve to it: deployments, routes, aliases, scales, the registry."""
