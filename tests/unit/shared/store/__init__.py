"""Tests of shared/store, module by module."""
