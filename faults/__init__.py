"""Faults under load: each is made for real, and what clients noticed of it is counted."""
