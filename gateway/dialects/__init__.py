"""Translate between job events and the wire formats that clients speak. Pure."""
