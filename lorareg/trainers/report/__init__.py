"""What a run leaves for people: metrics, curves, grids."""
