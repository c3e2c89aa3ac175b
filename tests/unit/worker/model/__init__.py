"""Tests of worker/model, module by module."""
