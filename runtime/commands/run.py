"""``glass-run``: judge images with a bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

import click

from ..bundle.bundle import Bundle
from ..images.encoded import DEFAULT_MAX_PIXELS, SIXTEEN_BIT, SixteenBit
from ..judging.detector import Detector
from ..judging.options import DEFAULT_BATCH_SIZE, MODES, SEED_KEY, DetectorOptions, Mode
from ..judging.same_run import SameRun
from ..machine.environment import cpu_flags
from ..machine.progress import silent
from ..results.output_file import Opening, OutputFile
from ..results.resume import Retry, take_up
from ..streaming.view_maker import DEFAULT_MEMORY
from .advice import int8_note
from .console import GlassCommand
from .inputs import PassedOver, chosen_bundle, chosen_images, note_missing, settle_decoders
from .judging import Run
from .options import (
    CropsChoice,
    bundle_option,
    common_options,
    device_option,
    engine_folder_option,
    engine_option,
    force_option,
    list_skipped_option,
    threshold_option,
)
from .output import STANDARD_OUTPUT, check_output, on_terminal, open_output, record_writer
from .progress import on_console

_EXAMPLES = """
\b
Examples:
  glass-run photo.jpg --bundle gl_vit.glass    one image, a table on the screen
  glass-run images/ -o verdicts.jsonl          a folder, one JSON object per line
  glass-run images/ -o verdicts.jsonl --resume go on after a stop of any kind
  glass-run 'images/**/*.png' -o - | jq .score a pattern, JSON lines on stdout
  find . -name '*.jpg' -print0 | glass-run -0 - --bundle gl_vit.glass -o verdicts.csv
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
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with FILE (.jsonl) after a stop of any kind: what it holds is not judged again, "
    "unless an image has changed or could not be read. Bundle, options and engine must be the "
    "same.",
)
@click.option(
    "--retry-errors",
    type=click.Choice(get_args(Retry)),
    default="read",
    show_default=True,
    help="With --resume, which images with an error are tried again: those whose file could not be "
    "read, all, or none.",
)
@click.option(
    "--add-bom",
    is_flag=True,
    help="Begin FILE (.csv) with a byte-order mark, without which Excel misreads names that are "
    "not ASCII.",
)
@click.option(
    "-0",
    "--null",
    is_flag=True,
    help="Paths on standard input end with NULs, as find -print0 writes them, not with line ends.",
)
@list_skipped_option
@threshold_option
@click.option(
    "--crops",
    type=CropsChoice(),
    metavar="N|auto",
    help="Crops per image, up to 1024; or auto for as many as its verdict needs, which takes a "
    "bundle made by glass-calibrate. Default: the bundle's number.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="The run's seed. It places the crops, together with the image's pixels and the secret in "
    "the environment variable GLASS_SEED_KEY, if that is set.",
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
    "--mode",
    type=click.Choice(MODES),
    default=MODES[0],
    show_default=True,
    help="The most images a second, or each image as soon as can be, one at a time.",
)
@click.option(
    "--batch-size",
    type=int,
    default=DEFAULT_BATCH_SIZE,
    show_default=True,
    help="The most views given to the engine at once.",
)
@click.option(
    "--threads",
    type=int,
    default=0,
    help="CPU threads of one run of the engine. Default: 1, and as many runs at once as CPUs; "
    "in latency mode all.",
)
@click.option(
    "--workers",
    type=int,
    default=0,
    help="Threads that decode and, on a CPU, judge. Default: one per CPU.",
)
@click.option(
    "--memory",
    metavar="MIB",
    type=click.IntRange(min=1),  # here, because DetectorOptions counts bytes
    default=DEFAULT_MEMORY >> 20,
    show_default=True,
    help="MiB that decoded images may take at once.",
)
@click.option(
    "--max-pixels",
    type=int,
    default=DEFAULT_MAX_PIXELS,
    show_default=True,
    help="Refuse larger images.",
)
@click.option(
    "--allow-damaged",
    is_flag=True,
    help="Judge images of which a part is missing, instead of refusing them; their records say "
    "damaged: true.",
)
@click.option(
    "--sixteen-bit",
    type=click.Choice(SIXTEEN_BIT),
    default=SIXTEEN_BIT[0],
    show_default=True,
    help="Grey values of more than 8 bits: clip them at 255, as training did, or scale them to "
    "8 bits. If clipping leaves nothing of an image, it is an error.",
)
@click.option(
    "--isolate",
    is_flag=True,
    help="Decode in processes of their own: a file that crashes an image library is a record, not "
    "the end of the run. Slower.",
)
@click.option("--timings", is_flag=True, help="Show where the time went, and what bounds the run.")
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
    resume: bool,
    retry_errors: Retry,
    add_bom: bool,
    null: bool,
    list_skipped: bool,
    threshold: float | None,
    crops: int | Literal["auto"] | None,
    seed: int,
    fixed_seed: int | None,
    engine: str,
    device: str,
    engine_dir: Path | None,
    mode: Mode,
    batch_size: int,
    threads: int,
    workers: int,
    memory: int,
    max_pixels: int,
    allow_damaged: bool,
    sixteen_bit: SixteenBit,
    isolate: bool,
    timings: bool,
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
        seed_key=os.environ.get(SEED_KEY, ""),
        fixed_seed=fixed_seed,
        threshold=threshold,
        mode=mode,
        batch_size=batch_size,
        threads=threads,
        workers=workers,
        memory=memory << 20,
        max_pixels=max_pixels,
        allow_damaged=allow_damaged,
        sixteen_bit=sixteen_bit,
        isolate=isolate,
    )
    images, total = chosen_images(paths, PassedOver(listed=list_skipped), null=null)
    check_output(output, force=force, resume=resume, bom=add_bom)
    bundle = chosen_bundle(bundle, paths)
    note_missing(paths)
    opened = Bundle.open(bundle, bundle_sha256)
    detector = Detector(opened, options, on_console)
    if tested:
        click.echo(str(detector.self_test()), err=bool(paths))
    if not paths:
        return
    _advise(detector)
    settle_decoders(max_pixels)
    manifest = detector.bundle.manifest
    opening: Opening = "keep" if resume else "replace" if force else "new"
    with open_output(output, opening) as sink:
        if resume and isinstance(sink, OutputFile):
            finished = take_up(sink, SameRun(detector), retry_errors)
            images = finished.remaining(images)
            total = None if total is None else max(0, total - finished.count)
            click.echo(str(finished), err=True)
        writer = record_writer(output, sink, manifest.classes, manifest.fake_class, bom=add_bom)
        # Records that appear on the terminal show the progress themselves.
        on_screen = output in (None, STANDARD_OUTPUT) and on_terminal()
        run = Run(detector, writer, show_timings=timings)
        failures = run.judge(images, total=total, progress=silent if on_screen else on_console)
    if strict and failures:
        ctx.exit(1)


def _advise(detector: Detector) -> None:
    """Say on standard error where an INT8 bundle does not pay."""
    if detector.bundle.manifest.precision == "int8":
        note = int8_note(detector.engine, detector.precision, cpu_flags())
        if note:
            click.echo(f"Note: {note}", err=True)
