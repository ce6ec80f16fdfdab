"""What differs between image and dialogue training."""
