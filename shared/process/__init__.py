"""Use the machine of a process: clock, ports, child processes, private files, and the Valkey started beside it."""
