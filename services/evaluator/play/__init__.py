"""Playing: environments are made, and contestants play episodes in them, each worker its share."""
