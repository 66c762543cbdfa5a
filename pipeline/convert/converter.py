"""CSV to a data set: shards, manifest and TFDS metadata, in one streaming pass.

The main thread reads, keeps the order and writes; a small pool parses and encodes, which NumPy does outside Python's
lock. Labels are taken for class indices on the way; where they turn out to have a gap or not to start at 0, the pass is
made again with the mapping known. A journal lets the same command go on with a pass that was killed.
"""

import contextlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pipeline.convert.columns import infer_image_shape
from pipeline.convert.config import ConvertConfig
from pipeline.convert.csv_source import NUM_THREADS
from pipeline.convert.disk_space import check_space, estimate_need, full_disk_explained
from pipeline.convert.journal import JournalWriter, Stale, read_journal
from pipeline.convert.one_pass import Job, Pass, Progress
from pipeline.convert.output_dir import clear_directory, new_directory, write_file
from pipeline.convert.part import Target
from pipeline.convert.sources import open_sources
from pipeline.format import manifest as manifest_lib
from pipeline.format.manifest import Manifest
from pipeline.format.records import RecordLayout
from pipeline.format.tfds_metadata import metadata_files

__all__ = ["ConvertConfig", "Progress", "convert"]


def convert(
    config: ConvertConfig,
    on_progress: Callable[[Progress], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Manifest:
    """Convert CSVs into `config.out` and return its manifest.

    The directory appears when everything in it is complete and on the disk, or not at all. What a killed conversion
    left is gone on from where that gives the same bytes as a whole run; `on_notice` is told of that in a line.

    Raises:
        InputError: anything wrong with the files or with the output directory, or a full disk; the message names the
            place.
    """
    sources = open_sources(config)
    every = [source for group in sources.values() for source in group]
    shape = infer_image_shape(every[0].first_line, every[0].columns.num_pixels, config.image_shape)
    need = estimate_need(every, RecordLayout(math.prod(shape)).stride)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(new_directory(config.out, config.overwrite))
        stack.enter_context(full_disk_explained(config.out, directory, need))
        pool = stack.enter_context(ThreadPoolExecutor(NUM_THREADS))
        journal = stack.enter_context(JournalWriter(directory, config.journal_interval))
        job = Job(config, sources, Target(directory, config.name, config.shards, shape), pool, journal, on_progress)
        result = stack.enter_context(contextlib.closing(_begun(job, on_notice or (lambda _: None))))
        check_space(config.out, directory, need)
        result.run()
        if result.needs_mapping:
            result = stack.enter_context(contextlib.closing(_second_pass(job, result)))
            result.run()
        manifest = result.publish()
        for name, text in metadata_files(manifest).items():
            write_file(directory / name, text)
        write_file(directory / manifest_lib.FILE_NAME, manifest.to_json())
        journal.remove()
    return manifest


def _begun(job: Job, notice: Callable[[str], None]) -> Pass:
    """A pass that goes on from what a killed conversion left, or a new one in an empty directory."""
    directory = job.target.directory
    result = None
    try:
        journal = read_journal(directory, job.identity)
        result = Pass(job, journal.class_labels, journal.first_pass)
        result.take_up(journal)
    except Stale as reason:
        if result is not None:
            result.close()
        if any(directory.iterdir()):
            notice(f"a conversion into {job.config.out} was killed; starting anew, because {reason}")
        clear_directory(directory)
        return Pass(job)
    clear_directory(directory, result.files)
    notice(f"a conversion into {job.config.out} was killed; going on after {result.rows_read:,} rows")
    return result


def _second_pass(job: Job, first: Pass) -> Pass:
    """A pass with the labels known; a journal goes over to it before what it told of is removed."""
    result = Pass(job, tuple(first.labels), tuple(first.sources))
    if job.journal.kept:
        job.journal.write(result.journal())
        job.journal.wait()
    clear_directory(job.target.directory, result.files)
    return result
