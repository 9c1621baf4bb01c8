"""What the sync and the async client share: messages, channels and retries. Nothing here awaits or blocks."""
