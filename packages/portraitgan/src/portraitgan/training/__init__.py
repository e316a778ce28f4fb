"""Training: schedules and stages, the loop, checkpoints, statistics, images of progress."""
