"""The built-in model: a small Llama that answers questions about chatcli itself."""
