"""Translate between job events and OpenAI's Responses. Pure."""
