"""``glass-build``: compile a bundle's graphs for this GPU ahead of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ..bundle.bundle import Bundle
from ..engines.tensorrt.api import LIBRARY_NAMES, Library, LibraryName, find_library
from ..engines.tensorrt.plan import (
    GIB,
    Batches,
    BuildOptions,
    PlanKey,
    default_batches,
    plan_key,
    usual_most,
)
from ..engines.tensorrt.store import PlanStore, StoredPlan
from ..machine.cuda import open_cuda
from ..machine.cuda.base import describe
from ..results.tables import markdown_table
from .console import GlassCommand
from .inputs import chosen_bundle
from .options import common_options, engine_folder_option
from .progress import on_console

EPILOG = """\b
Examples:
  glass-build gl_vit.int8.glass
  glass-build gl_vit.fp16.glass --max-batch 128 --builder-level 5
  glass-build gl_vit.fp16.glass --library tensorrt-rtx
"""


@dataclass(frozen=True)
class Target:
    """What plans are built with and for."""

    library: Library
    gpu: str


@dataclass(frozen=True)
class Outcome:
    """A plan, and why it was built now; ``None`` if it was there."""

    plan: StoredPlan
    why: str | None


@click.command(cls=GlassCommand, epilog=EPILOG)
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--library", type=click.Choice(LIBRARY_NAMES), help="Which TensorRT. Default: the installed."
)
@click.option(
    "--min-batch",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="The fewest views at a time.",
)
@click.option(
    "--opt-batch",
    type=click.IntRange(1),
    help="What the engines are tuned for. Default: an image's crops, rounded up.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1),
    help="The most views at a time. Default: four times --opt-batch, 16 or more.",
)
@click.option(
    "--workspace",
    type=click.FloatRange(0, min_open=True),
    metavar="GIB",
    help="GPU memory for scratch. Default: three quarters of what is free; TensorRT-RTX decides "
    "itself.",
)
@click.option(
    "--builder-level",
    type=click.IntRange(0, 5),
    help="0 builds fast, 5 searches longest. Default: TensorRT's.",
)
@click.option(
    "--version-compatible",
    is_flag=True,
    help="Let later TensorRT of the same major version load the engines.",
)
@click.option(
    "--hardware-compatible",
    is_flag=True,
    help="Let other GPUs (Ampere and later) load the engines.",
)
@engine_folder_option
@click.option("-f", "--force", is_flag=True, help="Build again what is there.")
@common_options
def main(
    bundle: Path | None,
    library: LibraryName | None,
    min_batch: int,
    opt_batch: int | None,
    max_batch: int | None,
    workspace: float | None,
    builder_level: int | None,
    version_compatible: bool,
    hardware_compatible: bool,
    engine_dir: Path | None,
    force: bool,
) -> None:
    """Build TensorRT engines from BUNDLE and keep them for glass-run --engine tensorrt.

    Needs no PyTorch. TensorRT builds on the very GPU that will run; TensorRT-RTX also on a
    machine without one. Beside each engine lies a JSON file that says what it is.
    """
    opened = Bundle.open(chosen_bundle(bundle, option=None))
    target = _target(library)
    usual = default_batches(opened)
    best = opt_batch or max(min_batch, min(usual.best, max_batch or usual.best))
    options = BuildOptions(
        batches=Batches(min_batch, best, max_batch or usual_most(best)),
        workspace=round(workspace * GIB) if workspace else 0,
        level=builder_level,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
    )
    store = PlanStore(opened, engine_dir)
    keys = [
        plan_key(opened, role, target.library, target.gpu, options)
        for role in opened.manifest.roles
    ]
    outcomes = [_build(store, key, again=force) for key in keys]
    click.echo(_table(outcomes, options))
    click.echo(f"\n{store.folder}")
    for note in _notes(outcomes):
        click.echo(f"Note: {note}", err=True)


def _target(name: LibraryName | None) -> Target:
    library = find_library(name)
    return Target(library, "any" if library.portable else describe(open_cuda()))


def _build(store: PlanStore, key: PlanKey, *, again: bool) -> Outcome:
    plan, why = store.build(key, on_console, again=again)
    return Outcome(plan, why)


def _table(outcomes: Sequence[Outcome], options: BuildOptions) -> str:
    header = ["graph", "computes in", "batch", "MB", "seconds", ""]
    rows = []
    for outcome in outcomes:
        record = outcome.plan.record
        types = ", ".join(f"{name.lower()} {count}" for name, count in record.built.layers.items())
        rows.append([
            record.key.role, types, str(options.batches), f"{record.size / 1e6:.1f}",
            f"{record.built.seconds:.1f}",
            f"built: {outcome.why}" if outcome.why else "was there",
        ])  # fmt: skip
    return markdown_table(header, rows)


def _notes(outcomes: Sequence[Outcome]) -> list[str]:
    unchecked = [o.plan.record.key.role for o in outcomes if o.plan.record.check is None]
    if not unchecked:
        return []
    return [
        f"the engines ({', '.join(unchecked)}) will be compared with ONNX Runtime when they first "
        "run on a GPU."
    ]
