"""The things that answer a conversation; each is an `Engine`."""
