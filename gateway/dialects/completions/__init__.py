"""Translate OpenAI's legacy completions: each is a chat with one message. Pure."""
