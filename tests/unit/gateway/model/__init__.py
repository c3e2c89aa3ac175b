"""Test gateway/model, module by module."""
