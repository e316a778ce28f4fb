"""Networks on disk: weights, checkpoints of a run, official checkpoints converted."""
