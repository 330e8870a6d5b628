"""`chatcli history`: what was said before, listed, found, taken away and brought in."""
