"""``glass-bench run``: PyTorch, full-size PyTorch, the naive way and bundles, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ...runtime.bundle.bundle import Bundle, sha256_of
from ...runtime.commands.progress import on_console
from ...runtime.machine.environment import environment
from ..contenders.naive import NaiveContender
from ..contenders.ours import bundle_contenders
from ..contenders.pytorch import PyTorchContender, pytorch_contenders
from ..contenders.turns import check_takes_part
from ..contenders.work import Contender, Setup, plan_photos, spread_out
from ..measuring.bundles import load_fitting
from ..measuring.report import SCHEMA_VERSION
from ..measuring.samples import Refusal
from .full_size import measure_full_size
from .options import RunOptions
from .report import BundleInfo, ImageInfo, Kind, RunReport
from .roofline import measure_roofline
from .scaling import measure_scaling
from .turns import Turns

_MOST_DECODED = 64  # images that the decoders' floor is measured on


def measure_run(
    checkpoint: Path,
    bundles: Sequence[Bundle],
    paths: Sequence[str],
    setup: Setup,
    options: RunOptions,
    *,
    command: str,
) -> RunReport:
    """Let every contender judge the same crops of the same images, in turns.

    Args:
        checkpoint: what the bundles were exported from.
        bundles: at least one; they must agree on ``setup.views``.
        paths: image files.
        setup: how all contenders judge.
        options: what is measured.
        command: what the report says it was made by.

    Raises:
        CheckpointError: the checkpoint does not hold the GLASS expected.
        InputError: a bundle is of another backbone than the checkpoint.
        ImageError: an image cannot be judged.
        EngineError: PyTorch cannot run the checkpoint, or a contender failed after it had
            begun well.
    """
    loaded = load_fitting(checkpoint, options.backbone, bundles)
    photos = plan_photos(paths, setup)
    with on_console("measuring the machine's bounds"):
        decoded = [photo.path for photo in spread_out(photos, _MOST_DECODED)]
        views = setup.views
        roofline = measure_roofline(
            loaded.model, views.crop_size, views.num_crops, decoded, setup.threads
        )
    recipe = loaded.recipe
    del loaded  # its memory is the contenders' now
    plain = PyTorchContender.plain(checkpoint, options.backbone, bundles[0])
    with ExitStack() as stack:
        turns = Turns(stack, setup)
        for kind, contender in _contenders(plain, bundles, options):
            turns.enter(kind, contender, photos)
        check_takes_part([plain.name], turns.refusals)
        turns.measure_end_to_end(photos, options.rounds)
        turns.measure_batches(photos, options.batches, options.rounds, options.seconds)
        series = measure_scaling(turns, setup, options)
        paper = turns.entries[0]
        full_size = measure_full_size(plain, paper, photos, setup, options.full_size_images)
    return RunReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        backbone=recipe.name,
        checkpoint=checkpoint.name,
        checkpoint_sha256=sha256_of(checkpoint),
        bundles=tuple(map(BundleInfo.of, bundles)),
        views=setup.views,
        seed=setup.seed,
        batch_size=setup.batch_size,
        batches=options.batches,
        threads=setup.threads,
        workers=setup.workers,
        images=tuple(ImageInfo(photo.path, photo.width, photo.height) for photo in photos),
        contenders=tuple(entry.result() for entry in turns.entries),
        refusals=(*turns.refusals, *_left_out(plain, bundles, options)),
        full_size=full_size,
        roofline=roofline,
        series=series,
    )


def _contenders(
    plain: PyTorchContender, bundles: Sequence[Bundle], options: RunOptions
) -> Iterator[tuple[Kind, Contender]]:
    for pytorch in pytorch_contenders(plain):
        if options.compiled or not pytorch.compiled:
            yield "pytorch", pytorch
    if full := _fp32(bundles):
        yield "naive", NaiveContender(full)
    for ours in bundle_contenders(bundles, options.engines):
        yield "ours", ours
        if ours.bundle.manifest.stopping is not None:
            yield "ours", replace(ours, auto=True)


def _fp32(bundles: Sequence[Bundle]) -> Bundle | None:
    return next((each for each in bundles if each.manifest.precision == "fp32"), None)


def _left_out(
    plain: PyTorchContender, bundles: Sequence[Bundle], options: RunOptions
) -> Iterator[Refusal]:
    """Say what does not take part because of what was asked for."""
    if not options.compiled:
        for pytorch in pytorch_contenders(plain):
            if pytorch.compiled:
                yield Refusal(pytorch.name, "left out by --no-compile.")
    if _fp32(bundles) is None:
        yield Refusal(NaiveContender.name, "none of the bundles is FP32.")
