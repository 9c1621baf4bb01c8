"""What is compared. Each module starts one system, says where it listens, and stops it."""
