"""Images per second: of the feed, of the training step, and of both together."""
