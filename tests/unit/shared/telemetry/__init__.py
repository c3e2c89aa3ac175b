"""Tests of shared/telemetry, module by module."""
