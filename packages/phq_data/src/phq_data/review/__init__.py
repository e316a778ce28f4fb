"""The review: the log of decisions, the queue, consensus and agreement."""
