"""Serve the HTTP routes, one module per face."""
