"""Sample data that the project draws itself, so that everything runs without a download."""

from pipeline.sample.csv_file import write_sample_csv
from pipeline.sample.draw import draw, draw_chunks

__all__ = ["draw", "draw_chunks", "write_sample_csv"]
