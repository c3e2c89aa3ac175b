"""Test worker/execution, module by module."""
