"""Test shared/store, module by module."""
