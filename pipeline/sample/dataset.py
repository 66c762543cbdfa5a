"""The sample data set: numerals drawn by this package, converted like any user's CSVs."""

import pathlib
import tempfile

TRAIN_ROWS, TEST_ROWS = 12_000, 2_000
ROWS_PER_WRITER = 200
_TRAIN_SEED, _TEST_SEED = 0, 1  # different seeds are different writers
_VAL_FRACTION = 0.1


def make_sample_dataset(directory: pathlib.Path, quiet: bool = False) -> None:
    """Draw train and test CSVs, convert them into `directory`, and leave nothing else behind.

    Validation takes whole writers out of train, so that no writer stands on both sides.
    """
    from pipeline.convert.converter import ConvertConfig, convert
    from pipeline.sample import write_sample_csv

    if not quiet:
        print(f"making sample data in {directory}: {TRAIN_ROWS:,} + {TEST_ROWS:,} drawn numerals", flush=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sample-", dir=directory.parent) as folder:
        train, test = pathlib.Path(folder) / "train.csv", pathlib.Path(folder) / "test.csv"
        write_sample_csv(train, TRAIN_ROWS, _TRAIN_SEED, ROWS_PER_WRITER)
        write_sample_csv(test, TEST_ROWS, _TEST_SEED, ROWS_PER_WRITER)
        convert(
            ConvertConfig(
                splits=(("train", train), ("test", test)),
                out=directory,
                val_fraction=_VAL_FRACTION,
                val_group_size=ROWS_PER_WRITER,
            )
        )
