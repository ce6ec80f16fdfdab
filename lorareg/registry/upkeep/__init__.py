"""What is reachable, what is broken, and what may go."""
