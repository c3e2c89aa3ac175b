"""Test gateway/client/model, module by module."""
