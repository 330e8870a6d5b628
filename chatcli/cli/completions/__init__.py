"""Completion scripts for shells, made from the command tree, and the lists they read.

A script knows every command and flag by itself, so that completing starts no Python; names that change
(models, conversations, templates) it reads from small files that chatcli keeps.
"""
