"""Test the gateway's modules."""
