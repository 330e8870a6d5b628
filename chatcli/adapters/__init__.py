"""The table of model families: which prompt format a model speaks, and how it is written.

Knows names, templates and tokens; knows no tensor, no network, no terminal.
"""
