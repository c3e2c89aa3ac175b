"""Test worker/model, module by module."""
