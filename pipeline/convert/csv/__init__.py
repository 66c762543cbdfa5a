"""Tables of text: their layout, a fast reader of plain whole numbers, and pandas for all others."""
