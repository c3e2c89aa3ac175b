"""Test worker/upstream/providers, module by module."""
