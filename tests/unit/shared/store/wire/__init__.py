"""Test shared/store/wire, module by module."""
