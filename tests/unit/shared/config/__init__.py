"""Tests of shared/config, module by module."""
