"""``glass-run``: judge images with a bundle."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import click

from .bundle import Bundle, find_bundle
from .console import GlassCommand, settle_pillow, track
from .decode import DEFAULT_MAX_PIXELS
from .detector import DEFAULT_BATCH_SIZE, Detector, DetectorOptions
from .errors import InputError
from .options import (
    bundle_option,
    common_options,
    device_option,
    engine_folder_option,
    engine_option,
    force_option,
    threads_option,
    threshold_option,
)
from .output import STANDARD_OUTPUT, Writer, check_output, open_writer
from .records import Failure
from .sources import STANDARD_INPUT, find_images, listed_images
from .workers import DEFAULT_MEMORY

_EXAMPLES = """
\b
Examples:
  glass-run photo.jpg                          one image, a table on the screen
  glass-run images/ -o verdicts.jsonl          a folder, one JSON object per line
  glass-run 'images/**/*.png' -o - | jq .score a pattern, JSON lines on stdout
  find . -name '*.jpg' | glass-run - --bundle gl_vit.glass -o verdicts.csv
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Judge images: files, folders (searched recursively), glob patterns, or - for a list "
    "of paths on standard input.",
)
@click.argument("paths", metavar="PATH...", nargs=-1)
@bundle_option("The bundle.")
@click.option(
    "--bundle-sha256",
    metavar="DIGEST",
    help="Refuse any other bundle than the one whose glass.json has this SHA-256.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write records to FILE (.jsonl or .csv); - for JSON lines on stdout. Default: a table.",
)
@force_option("FILE")
@threshold_option
@click.option("--crops", type=int, help="Crops per image. Default: the bundle's number.")
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="The run's seed: with the image's content it decides where crops lie.",
)
@click.option(
    "--fixed-seed",
    type=int,
    metavar="SEED",
    help="Use this generator seed for every image, as the reference's tests do.",
)
@engine_option
@device_option
@engine_folder_option
@click.option(
    "--batch-size",
    type=int,
    default=DEFAULT_BATCH_SIZE,
    show_default=True,
    help="The most views given to the engine at once.",
)
@threads_option
@click.option(
    "--workers", type=int, default=0, help="Threads that read and decode. Default: one per CPU."
)
@click.option(
    "--memory",
    metavar="MIB",
    type=int,
    default=DEFAULT_MEMORY >> 20,
    show_default=True,
    help="MiB that decoded images may take at once.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=DEFAULT_MAX_PIXELS,
    show_default=True,
    help="Refuse larger images.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 if any image could not be judged.")
@click.option(
    "--self-test",
    "tested",
    is_flag=True,
    help="First compare the engine with the bundle's reference views, and print the figures; "
    "without PATH only that.",
)
@common_options
@click.pass_context
def main(
    ctx: click.Context,
    paths: tuple[str, ...],
    bundle: Path | None,
    bundle_sha256: str | None,
    output: str | None,
    force: bool,
    threshold: float,
    crops: int | None,
    seed: int,
    fixed_seed: int | None,
    engine: str,
    device: str,
    engine_dir: Path | None,
    batch_size: int,
    threads: int,
    workers: int,
    memory: int,
    max_pixels: int,
    strict: bool,
    tested: bool,
) -> None:
    """Judge images; see ``glass-run --help``."""
    if not (paths or tested):
        raise click.UsageError("Missing argument 'PATH...'.")
    options = DetectorOptions(
        engine=engine,
        device=device,
        engine_folder=engine_dir,
        crops=crops,
        seed=seed,
        fixed_seed=fixed_seed,
        threshold=threshold,
        batch_size=batch_size,
        threads=threads,
        workers=workers,
        memory=memory << 20,
        max_pixels=max_pixels,
    )
    images, total = _images(paths)
    check_output(output, force=force)
    opened = Bundle.open(bundle or find_bundle(Path.cwd()), bundle_sha256)
    detector = Detector(opened, options)
    if tested:
        click.echo(str(detector.self_test()), err=bool(paths))
    if not paths:
        return
    settle_pillow(max_pixels)
    manifest = detector.bundle.manifest
    with open_writer(output, manifest.classes, manifest.fake_class) as writer:
        # Records that appear on the terminal show the progress themselves.
        on_screen = output in (None, STANDARD_OUTPUT) and sys.stdout.isatty()
        failures = _run(detector, images, writer, total=total, bar=not on_screen)
    if strict and failures:
        ctx.exit(1)


def _images(paths: tuple[str, ...]) -> tuple[Iterable[str], int | None]:
    """Return the images and, where it can be known beforehand, their number."""
    if STANDARD_INPUT in paths:
        if len(paths) > 1:
            raise InputError("- (a list on standard input) cannot be combined with other paths.")
        return listed_images(sys.stdin), None
    found = find_images(paths)
    return found, len(found)


def _run(
    detector: Detector, images: Iterable[str], writer: Writer, *, total: int | None, bar: bool
) -> int:
    """Judge and write everything; print the summary; return the number of errors."""
    counts: Counter[str] = Counter()
    started = time.perf_counter()
    try:
        with closing(detector.stream(images)) as records:
            for record in track(records, "judging", total, shown=bar):
                writer.write(record)
                counts["error" if isinstance(record, Failure) else record.verdict] += 1
    finally:
        _summarise(counts, detector, time.perf_counter() - started)
    return counts["error"]


def _summarise(counts: Counter[str], detector: Detector, seconds: float) -> None:
    images, errors = counts.total(), counts["error"]
    verdicts = ", ".join(f"{counts[name]} {name}" for name in detector.bundle.manifest.classes)
    click.echo(
        f"{images} images in {seconds:.1f} s ({images / max(seconds, 1e-9):.1f} images/s): "
        f"{verdicts}, {errors} errors; {detector.engine}, {detector.bundle.manifest.precision}, "
        f"bundle {detector.bundle.name}",
        err=True,
    )
