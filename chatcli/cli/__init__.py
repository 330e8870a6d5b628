"""The shell commands, one file each, and their wiring."""
