"""Tests of the reaper: it ends abandoned jobs, finds lost ones, and removes stale queue entries."""
