"""Events to characters on a stream."""
