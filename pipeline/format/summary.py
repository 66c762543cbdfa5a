"""A data set in a few lines of plain text."""

from pipeline.errors import size_text
from pipeline.format.manifest import Manifest, Split, Validation


def summary_text(manifest: Manifest) -> str:
    """The splits with their examples, sizes and class balance, and the pixel statistics."""
    shape = " x ".join(map(str, manifest.image_shape))
    total = sum(split.num_examples for split in manifest.splits.values())
    classes = f"{manifest.num_classes} classes" if manifest.class_names else "no labels"
    rows = [("split", "examples", "shards", "size", "in each class")]
    for split in manifest.splits.values():
        size = size_text(sum(shard.num_bytes for shard in split.shards))
        balance = _balance_text(split, manifest.class_names)
        rows.append((split.name, f"{split.num_examples:,}", f"{len(split.shards):,}", size, balance))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{manifest.name}: {total:,} images of {shape}, {classes}"]
    for row in rows:
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
        lines.append(f"  {row[0].ljust(widths[0])}  {numbers}  {row[-1]}")
    lines.append(f"  {pixels_text(manifest)}")
    return "\n".join(lines)


def pixels_text(manifest: Manifest) -> str:
    """Mean and standard deviation of each channel."""
    mean = ", ".join(f"{value:.2f}" for value in manifest.pixel_mean)
    std = ", ".join(f"{value:.2f}" for value in manifest.pixel_std)
    return f"pixels of 0..255: mean {mean}, standard deviation {std}"


def _balance_text(split: Split, class_names: tuple[str, ...]) -> str:
    """How even the classes of a split are."""
    if not split.labelled:
        return "no labels"
    fewest, most = min(split.class_counts), max(split.class_counts)
    if fewest == most:
        return f"{most:,}"
    smallest, largest = split.class_counts.index(fewest), split.class_counts.index(most)
    return f"{fewest:,} (class {class_names[smallest]}) to {most:,} (class {class_names[largest]})"


def validation_text(rule: Validation) -> str:
    """The rule by which `val` was split off."""
    if not rule.fraction:
        return "no validation rows split off"
    unit = "of each class" if rule.group_size is None else f"in blocks of {rule.group_size:,} rows"
    return f"val is {rule.fraction:g} of {rule.source} {unit}, seed {rule.seed}"
