"""Tests of shared/process, module by module."""
