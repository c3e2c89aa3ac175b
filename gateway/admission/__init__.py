"""Decide whether a request may enter, and as which job."""
