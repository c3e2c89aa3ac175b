"""Test gateway/preparation, module by module."""
