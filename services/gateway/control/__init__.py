"""The control plane: what is wanted, kept in a database, and brought about on Ray Serve."""
