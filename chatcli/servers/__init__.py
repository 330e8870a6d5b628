"""Servers of the OpenAI API as people name them: addresses, profiles, and where keys come from."""
