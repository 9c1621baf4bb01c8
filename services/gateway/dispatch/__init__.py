"""Queues, the making of batches, and which replica gets what."""
