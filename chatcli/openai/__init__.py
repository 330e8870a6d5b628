"""The OpenAI API as a format: requests, answers and streams of chat completions, in both directions.

Values and JSON only; it opens no connection and knows no model.
"""
