"""A message becomes a request for a version, or waits for the first replica of its policy."""
