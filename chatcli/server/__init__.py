"""What serves models to other processes; it knows no terminal."""
