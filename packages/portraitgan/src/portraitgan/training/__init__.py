"""Training: schedules and stages, the loop, checkpoints, statistics, pictures of progress."""
