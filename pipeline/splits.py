"""Names of splits with a meaning of their own."""

TRAIN, VAL = "train", "val"
