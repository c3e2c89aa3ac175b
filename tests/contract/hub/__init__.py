"""Contract tests of the hub on a real server."""
