"""Tests of shared/model, module by module."""
