"""What an episode remembers between two steps: carried by its client, or kept here."""
