"""Test shared/model, module by module."""
