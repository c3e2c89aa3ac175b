"""Test shared/process, module by module."""
