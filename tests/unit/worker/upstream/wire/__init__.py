"""Tests of worker/upstream/wire, module by module."""
