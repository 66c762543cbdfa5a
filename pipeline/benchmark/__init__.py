"""Benchmarks: what the feed delivers, what the step takes, and both together."""
