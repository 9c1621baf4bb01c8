"""Environments: which one a version is played in, made in one way wherever that is, and held to their own spaces."""
