"""What the machine gives: devices, precision, memory, processes."""
