"""Many trainings: adapters side by side, variants of one."""
