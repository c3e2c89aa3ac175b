"""Translate between job events and the AI SDK's UI messages. Pure."""
