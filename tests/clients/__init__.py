"""Tests that drive real clients against real processes."""
