"""Test gateway/api, module by module."""
