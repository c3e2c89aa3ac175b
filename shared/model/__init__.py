"""The values and rules of a job: states, events, errors, lanes, routes, bounds. Pure: no I/O, no clock."""
