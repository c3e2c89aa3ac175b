"""The client's values and rules: what it knows of a job, and how it shows it. Pure."""
