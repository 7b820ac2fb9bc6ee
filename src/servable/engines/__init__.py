"""What runs the servers."""
