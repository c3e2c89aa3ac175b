"""Test gateway/specs, module by module."""
