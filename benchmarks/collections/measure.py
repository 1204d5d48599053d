"""Measures sources, outputs, a cluster and memory, one after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.progress import on_console
from ...runtime.judging.options import DetectorOptions
from ...runtime.machine.environment import environment
from ...runtime.machine.errors import EngineError
from ...runtime.results.output_file import CSV, JSON_LINES, PARQUET
from ..measuring.judge import Judge, Passage
from ..measuring.process import OwnProcess
from ..measuring.report import SCHEMA_VERSION
from ..measuring.rotation import in_rotation
from ..measuring.samples import Samples
from .bucket import Bucket, bucket_of
from .cluster import MEMBERS, Batch, BatchRun, cluster
from .forms import FOLDER, FORMS, TAR, write_forms, write_small_tar
from .memory import Judging, Reading
from .options import CollectionsOptions
from .report import (
    CollectionsReport,
    Memory,
    OutputCost,
    Sharing,
    SourceCost,
    WayToShare,
)

OUTPUTS = (JSON_LINES, CSV, PARQUET)
SMALL_SIDE = 96
"""Pixels, of the longer side of the images along which memory is measured."""

_SAME = 1e-3  # of P(fake): how images share batches may change the last bits


def measure_collections(
    images: Sequence[str], bundle: Bundle, options: CollectionsOptions, *, command: str
) -> CollectionsReport:
    """Compare where images come from and where records go.

    Args:
        images: files.
        bundle: what judges.
        options: what is measured.
        command: what the report says it was made by.

    Raises:
        EngineError: a program or a server failed, or a form of the images gave other verdicts.
        ImageError: an image cannot be judged.
    """
    path = bundle.path.resolve()
    with tempfile.TemporaryDirectory(prefix="glass-bench-") as scratch:
        place = Path(scratch)
        count = write_forms(images, options.repeat, place)
        with ExitStack() as stack:
            bucket = stack.enter_context(bucket_of(place)) if options.bucket else None
            judge = stack.enter_context(_judge(path, options.engine, bucket))
            engine, sources = measure_sources(judge, place, bucket, options.rounds)
            outputs = measure_outputs(judge, place, options)
        sharing = _sharing(place, path, options) if options.cluster else None
        memory = _memory(images, path, options, place) if options.read_images else None
    return CollectionsReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        libraries=_versions(options),
        images=count,
        image_bytes=(sources[0].bytes or 0) / count,
        bundle=bundle.name,
        engine=engine,
        rounds=options.rounds,
        sources=sources,
        outputs=outputs,
        memory=memory,
        sharing=sharing,
    )


def measure_sources(
    judge: OwnProcess[Judge], place: Path, bucket: Bucket | None, rounds: int
) -> tuple[str, tuple[SourceCost, ...]]:
    """Judge every form of the images; return the engine, and what each form costs.

    Raises:
        EngineError: two forms gave different verdicts.
        ImageError: an image cannot be judged.
    """
    addresses = {name: str(place / name) for name in FORMS} | (bucket.sources if bucket else {})

    def measure(name: str) -> tuple[Passage, float]:
        before = _server_cpu(bucket)
        passage = judge.ask(Judge.judge, addresses[name])
        return passage, _server_cpu(bucket) - before

    turns = in_rotation(list(addresses), measure, rounds, "sources")
    expected = turns[0][0][0].scores
    costs = []
    for name, turn in zip(addresses, turns, strict=True):
        if not all(_same(passage.scores, expected) for passage, _ in turn):
            raise EngineError(f"{name} gave other verdicts than the folder of the same images.")
        costs.append(_source_cost(name, place / name, turn, bucket))
    return turns[0][0][0].engine, tuple(costs)


def measure_outputs(
    judge: OwnProcess[Judge], place: Path, options: CollectionsOptions
) -> tuple[OutputCost, ...]:
    """Judge the folder with every format of records, and let each writer work alone."""
    folder = str(place / FOLDER)

    def whole(suffix: str) -> float:
        return judge.ask(Judge.judge, folder, str(place / f"records{suffix}")).seconds

    def alone(suffix: str) -> float:
        return judge.ask(Judge.write, str(place / f"alone{suffix}"), options.records)

    wholes = in_rotation(OUTPUTS, whole, options.rounds, "outputs")
    judge.ask(Judge.keep, folder)
    alones = in_rotation(OUTPUTS, alone, options.rounds, "writers")
    return tuple(
        OutputCost(
            suffix,
            Samples(seconds),
            Samples(writing),
            options.records,
        )
        for suffix, seconds, writing in zip(OUTPUTS, wholes, alones, strict=True)
    )


def _same(scores: Sequence[float], expected: Sequence[float]) -> bool:
    return np.shape(scores) == np.shape(expected) and np.allclose(scores, expected, 0, _SAME)


def _judge(bundle: Path, engine: str, bucket: Bucket | None) -> OwnProcess[Judge]:
    variables: Mapping[str, str] = bucket.environment if bucket else {}
    with on_console("opening the detector"):
        return OwnProcess("the detector", Judge, bundle, DetectorOptions(engine=engine), variables)


def _server_cpu(bucket: Bucket | None) -> float:
    return (bucket.cpu_seconds() or 0.0) if bucket else 0.0


def _source_cost(
    name: str, file: Path, turn: Sequence[tuple[Passage, float]], bucket: Bucket | None
) -> SourceCost:
    served = bucket is not None and name in bucket.sources
    return SourceCost(
        name,
        bytes=_bytes_of(file),
        seconds=Samples(tuple(passage.seconds for passage, _ in turn)),
        cpu_seconds=Samples(tuple(passage.cpu_seconds for passage, _ in turn)),
        server_cpu_seconds=Samples(tuple(cpu for _, cpu in turn)) if served else None,
    )


def _bytes_of(form: Path) -> int | None:
    """Return the size of a file or of all files in a folder, ``None`` if it is not there."""
    if not form.exists():
        return None
    files = form.iterdir() if form.is_dir() else [form]
    return sum(file.stat().st_size for file in files)


def _memory(
    images: Sequence[str], bundle: Path, options: CollectionsOptions, place: Path
) -> Memory:
    tar = place / f"small-{TAR}"
    count = options.read_images
    with on_console("making an archive"):
        write_small_tar(images, count, SMALL_SIDE, tar)
    with on_console("reading it"), OwnProcess("reading", Reading) as reading:
        curves = [reading.ask(Reading.watch, str(tar), count)]
    judged = min(options.judged_images, count)
    if judged:
        with (
            on_console("judging some of it"),
            OwnProcess("judging", Judging, bundle, options.engine) as judging,
        ):
            curves.append(judging.ask(Judging.watch, str(tar), judged))
    return Memory(count, tar.stat().st_size, SMALL_SIDE, tuple(curves))


def _sharing(place: Path, bundle: Path, options: CollectionsOptions) -> Sharing:
    """Judge the folder shard by shard, by processes and by actors."""
    batch = Batch.of(place / FOLDER, bundle, options.engine)
    with cluster() as started:
        ways: dict[str, Callable[[], BatchRun]] = {
            f"{MEMBERS} processes, --share": batch.by_processes,
            f"{MEMBERS} actors, --ray": lambda: batch.by_actors(started),
        }
        turns = in_rotation(list(ways), lambda name: ways[name](), options.rounds, "shards")
    return Sharing(
        batch.shards,
        MEMBERS,
        tuple(
            WayToShare(
                name,
                Samples(tuple(run.judging for run in turn)),
                Samples(tuple(run.wall for run in turn)),
            )
            for name, turn in zip(ways, turns, strict=True)
        ),
    )


def _versions(options: CollectionsOptions) -> dict[str, str]:
    """Return the versions of the libraries that took part besides those of the environment."""
    names = ["pyarrow"]
    names += ["fsspec", "s3fs", "moto"] if options.bucket else []
    names += ["ray"] if options.cluster else []
    return {name: version(name) for name in names}
