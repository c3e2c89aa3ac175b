"""Tests of abandonment: a job without viewers ends, and its upstream's socket is closed."""
