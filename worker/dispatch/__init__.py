"""Dispatch: which job runs next, who holds it, and what ends jobs that no worker holds."""
