"""Many replicas of an engine behind one address: Ray Serve runs them, what is here says which request goes where."""
