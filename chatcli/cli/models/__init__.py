"""`chatcli models`: what lies on this machine, fetched, listed, shown and taken away."""
