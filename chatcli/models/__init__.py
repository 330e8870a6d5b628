"""Models as files: from a name to a folder, what the folder holds, what fits on this machine.

Knows the Hub and the disk; loads no weights and imports no torch.
"""
