"""Test shared/telemetry, module by module."""
