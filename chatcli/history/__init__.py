"""What was said, on disk: the only place with SQL."""
