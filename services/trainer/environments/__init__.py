"""Environments of runs: they are made, probed and watched here, and recordings of them read."""
