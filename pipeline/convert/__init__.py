"""CSV to shards. Nothing here needs TensorFlow, except examples.py, which reads what other programs wrote."""
