"""Test worker/upstream, module by module."""
