"""What a server measures about itself."""
