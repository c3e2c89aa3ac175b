"""The worker process: takes jobs from the lanes and streams tokens into their replay logs."""
