"""Test the support code of other tests."""
