"""Load: programs that measure, started by make."""
