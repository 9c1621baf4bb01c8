"""Steersman's services. Each one is a folder and a process; they meet only through the protos."""
