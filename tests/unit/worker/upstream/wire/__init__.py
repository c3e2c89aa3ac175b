"""Test worker/upstream/wire, module by module."""
