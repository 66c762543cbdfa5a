"""CSV to shards. Nothing here needs TensorFlow, except schema.parse_batch, which imports it when called."""
