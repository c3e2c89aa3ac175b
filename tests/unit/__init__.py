"""Tests of single modules; mirrors the tree."""
