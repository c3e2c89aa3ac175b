"""Tests of shared/'s modules."""
