"""DVC, the carrier of bytes."""
