"""Token ids to clean text, piece by piece: never half a character, a stop string or a control code.

Knows no model and no terminal; where the stream is cut never matters.
"""
