"""Test single modules; the folders mirror the code's."""
