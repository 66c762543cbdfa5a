"""Sample data that the project draws itself, so that everything runs without a download."""

from pipeline.sample.dataset import make_sample_dataset, write_sample_csv
from pipeline.sample.draw import ROWS_PER_WRITER, draw

__all__ = ["ROWS_PER_WRITER", "draw", "make_sample_dataset", "write_sample_csv"]
