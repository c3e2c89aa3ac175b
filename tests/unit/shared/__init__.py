"""Test shared/'s modules."""
