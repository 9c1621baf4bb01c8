"""The service: what is asked for is read, checked and answered here."""
