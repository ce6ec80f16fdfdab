"""The report of a composition: one HTML file that says everything known about it."""
