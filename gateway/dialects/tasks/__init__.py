"""Translate jobs into tasks, for callers that poll. Pure."""
