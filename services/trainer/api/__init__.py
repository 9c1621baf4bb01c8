"""The service: what callers ask for is checked, started and followed here."""
