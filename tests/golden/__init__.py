"""Recorded bytes that outputs are compared with."""
