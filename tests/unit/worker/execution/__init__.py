"""Tests of worker/execution, module by module."""
