"""Clients beside the load, each in a process of its own: they take what the load is not to notice."""
