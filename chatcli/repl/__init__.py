"""The chat in a terminal: keys in, commands, the loop. prompt_toolkit lives here."""
