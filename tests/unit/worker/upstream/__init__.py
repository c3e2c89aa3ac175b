"""Tests of worker/upstream, module by module."""
