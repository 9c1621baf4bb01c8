"""Sweeps: runs with many trials, of which the best becomes the version."""
