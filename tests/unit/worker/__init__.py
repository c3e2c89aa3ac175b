"""Test the worker's modules."""
