"""Test shared/config, module by module."""
