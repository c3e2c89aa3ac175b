"""A process and its machine: clock, ports, child processes, private files, and the Valkey that is started beside it."""
