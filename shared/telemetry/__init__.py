"""Write the logs and count the metrics of a process."""
