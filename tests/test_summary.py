from pipeline.format.manifest import Validation, load_manifest
from pipeline.format.summary import summary_text, validation_text


def test_summary_lists_splits_sizes_balance_and_pixels(digits):
    assert summary_text(load_manifest(digits)).splitlines() == [
        "digits: 284 images of 8 x 8 x 1, 3 classes",
        "  split  examples  shards      size  in each class",
        "  train       203       3  28.5 KiB  67 (class 2) to 68 (class 0)",
        "  val          50       3   7.0 KiB  16 (class 1) to 17 (class 0)",
        "  test         31       3   4.4 KiB  no labels",
        "  pixels of 0..255: mean 93.35, standard deviation 87.60",
    ]


def test_validation_rule_is_described():
    assert validation_text(Validation()) == "no validation rows split off"
    assert validation_text(Validation(0.1)) == "val is 0.1 of train of each class, seed 0"
    assert validation_text(Validation(0.25, 1000, "a", 7)) == "val is 0.25 of a in blocks of 1,000 rows, seed 7"
