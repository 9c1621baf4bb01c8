"""Ray's cluster, seen from outside: its jobs, its resources, who waits for them, and user code on its way there."""
