"""Tests of worker/upstream/providers, module by module."""
