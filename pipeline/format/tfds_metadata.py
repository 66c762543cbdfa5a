"""Metadata files with which TensorFlow Datasets reads the directory, written without importing it.

`tfds.builder_from_directory(directory).as_dataset(split="train")` gives image uint8 [H, W, C], label and id int64, with
`as_supervised=True` the pair (image, label). The form is that of TFDS 4.9 (`tfds.folder_dataset.write_metadata`).
"""

import json

from pipeline.format.manifest import Manifest
from pipeline.format.records import ID, IMAGE, LABEL

LABELS_FILE = f"{LABEL}.labels.txt"
FILE_NAMES = ("features.json", "dataset_info.json", LABELS_FILE)
_PACKAGE = "tensorflow_datasets.core.features"
_INT64 = {
    "pythonClassName": f"{_PACKAGE}.scalar.Scalar",
    "tensor": {"dtype": "int64", "encoding": "none", "shape": {}},
}


def shard_name(dataset: str, split: str, index: int, num_shards: int) -> str:
    """File name of a shard, as TFDS names them."""
    return f"{dataset}-{split}.tfrecord-{index:05d}-of-{num_shards:05d}"


def metadata_files(manifest: Manifest) -> dict[str, str]:
    """File name -> text; class names are omitted if no split has labels."""
    contents = (_features(manifest), _info(manifest))
    texts = (json.dumps(content, indent=2, sort_keys=True) + "\n" for content in contents)
    files = dict(zip(FILE_NAMES, texts, strict=False))  # not strict: the third name is for labels only
    if manifest.class_names:
        files[LABELS_FILE] = "".join(f"{name}\n" for name in manifest.class_names)
    return files


def _features(manifest: Manifest) -> dict:
    image = {
        "pythonClassName": f"{_PACKAGE}.tensor_feature.Tensor",
        "tensor": {
            "dtype": "uint8",
            "encoding": "bytes",
            "shape": {"dimensions": [str(length) for length in manifest.image_shape]},
        },
    }
    label = {
        "classLabel": {"numClasses": str(manifest.num_classes)},
        "pythonClassName": f"{_PACKAGE}.class_label_feature.ClassLabel",
    }
    features = {IMAGE: image, LABEL: label if manifest.class_names else _INT64, ID: _INT64}
    return {"featuresDict": {"features": features}, "pythonClassName": f"{_PACKAGE}.features_dict.FeaturesDict"}


def _info(manifest: Manifest) -> dict:
    splits = [
        {
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "name": split.name,
            "numBytes": str(sum(shard.num_bytes for shard in split.shards)),
            "shardLengths": [str(shard.num_examples) for shard in split.shards],
        }
        for _, split in sorted(manifest.splits.items())
    ]
    height, width, channels = manifest.image_shape
    return {
        "description": f"Images of {height} x {width} x {channels} in {manifest.num_classes} classes, from CSV files.",
        "fileFormat": "tfrecord",
        "name": manifest.name,
        "splits": splits,
        "supervisedKeys": {"tuple": {"items": [{"featureKey": IMAGE}, {"featureKey": LABEL}]}},
        "version": "1.0.0",  # TFDS requires one; ours is in the manifest
    }
