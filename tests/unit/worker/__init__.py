"""Tests of the worker's modules."""
