"""The shared core: one loop for every task, and what makes it exact."""
