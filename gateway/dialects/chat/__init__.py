"""Translate between job events and OpenAI's chat completions. Pure."""
