"""A data set copied to a local disk, once: for training from an object store or over a slow network."""

import functools
import pathlib
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from pipeline.errors import InputError, size_text
from pipeline.files import remove_stale, replacing, sha256_of
from pipeline.format.manifest import FILE_NAME, Manifest
from pipeline.format.text_ids import id_files
from pipeline.format.tfds_metadata import metadata_files
from pipeline.mirror import note_copy
from pipeline.remote import as_path, download

_COPIES = 8  # files at a time


def copy_to_cache(directory: str | pathlib.Path, manifest: Manifest, cache: pathlib.Path) -> pathlib.Path:
    """The directory in `cache` with a data set's files, those copied that are not there yet; it is named by their hash.

    Raises:
        InputError: a file is missing or not as the manifest has it, or the disk is too small.
    """
    source, target = as_path(directory), cache / f"{manifest.name}-{manifest.sha256[:12]}"
    target.mkdir(parents=True, exist_ok=True)
    remove_stale(target)
    hashes = {shard.name: shard.sha256 for shard in manifest.all_shards} | id_files(manifest)
    # What is there is whole and was compared when it was copied.
    missing = [name for name in hashes if not (target / name).exists()]
    sizes = {shard.name: shard.num_bytes for shard in manifest.all_shards}
    needed, free = sum(sizes.get(name, 0) for name in missing), shutil.disk_usage(target).free
    if needed > free:
        raise InputError(
            f"--cache-dir {cache}: {manifest.name} takes {size_text(needed)} more, and {size_text(free)} are free; "
            "make room, choose another directory, or omit it"
        )
    with ThreadPoolExecutor(_COPIES) as pool:
        list(pool.map(functools.partial(_copy, source, target, hashes), missing))
    for name, text in {**metadata_files(manifest), FILE_NAME: manifest.to_json()}.items():
        with replacing(target / name) as temporary:
            temporary.write_bytes(text.encode())
    note_copy(target, source)
    return target


def _copy(source: pathlib.Path, target: pathlib.Path, hashes: Mapping[str, str], name: str) -> None:
    with replacing(target / name) as temporary:
        try:
            download(source / name, temporary)
        except FileNotFoundError as error:
            raise InputError(f"{source / name}: missing, though the manifest lists it") from error
        if sha256_of(temporary) != hashes[name]:
            raise InputError(
                f"{source / name}: changed since it was written; see: python tools/inspect_tfrecord.py verify {source}"
            )
