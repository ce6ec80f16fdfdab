"""The frozen models that adapters belong to."""
