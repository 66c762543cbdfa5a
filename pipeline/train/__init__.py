"""Batches to weights. Calling it, `pipeline.train(...)`, is `pipeline.api.functions.train`."""

import pipeline

pipeline.make_callable(__name__)
