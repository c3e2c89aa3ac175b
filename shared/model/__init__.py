"""A job as values and rules: states, events, errors, lanes, routes, bounds. Pure: no I/O, no clock."""
