"""Test worker/dispatch, module by module."""
