"""chatcli: talk to any Hugging Face checkpoint from a terminal."""

__version__ = "0.1.0"
