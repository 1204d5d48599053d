"""``glass-run``: judge images with a bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import click

from ..bundle.bundle import Bundle
from ..claims.claims import ClaimOptions
from ..claims.reading import read_trust_list
from ..images.encoded import SixteenBit
from ..judging.detector import Detector
from ..judging.options import SEED_KEY, DetectorOptions, Mode
from ..judging.same_run import SameRun
from ..machine.environment import cpu_flags
from ..machine.errors import InputError
from ..machine.progress import silent
from ..report.writing import is_report
from ..results.output_file import Opening, OutputFile
from ..results.resume import Retry, take_up
from .console import GlassCommand, check_libraries
from .inputs import PassedOver, chosen_bundle, chosen_images, note_missing, settle_decoders
from .options import common_options
from .progress import on_console
from .running.advice import int8_note
from .running.judging import Run
from .running.options import run_options
from .running.output import STANDARD_OUTPUT, check_output, on_terminal, open_output, record_writer
from .running.report import RunReport, check_report, writing

_EXAMPLES = """
\b
Examples:
  glass-run photo.jpg --bundle gl_vit.glass    one image, a table on the screen
  glass-run images/ -o verdicts.jsonl          a folder, one JSON object per line
  glass-run images/ -o verdicts.jsonl --resume go on after a stop of any kind
  glass-run 'images/**/*.png' -o - | jq .score a pattern, JSON lines on stdout
  glass-run images/ --report report.html       a page to look at, with every crop
  find . -name '*.jpg' -print0 | glass-run -0 - --bundle gl_vit.glass -o verdicts.csv
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Judge images: files, folders (searched recursively), glob patterns, or - for a list "
    "of paths on standard input.",
)
@run_options
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
    report: Path | None,
    influence: bool,
    provenance: bool,
    trust_list: Path | None,
    timings: bool,
    strict: bool,
    tested: bool,
) -> None:
    """Judge images; see ``glass-run --help``."""
    if not paths and (report is not None or not tested):
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
        influence=influence or report is not None,
        thumbnails=report is not None,
        claims=claim_options(trust_list, provenance=provenance),
    )
    images, total = chosen_images(paths, PassedOver(listed=list_skipped), null=null)
    check_output(output, force=force, resume=resume, bom=add_bom)
    if report is not None:
        check_report(report, force=force or (resume and is_report(report)))
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
    shown = None if report is None else RunReport(report, paths, detector)
    opening: Opening = "keep" if resume else "replace" if force else "new"
    with open_output(output, opening) as sink:
        if resume and isinstance(sink, OutputFile):
            finished = take_up(sink, SameRun(detector), retry_errors)
            images = finished.remaining(images)
            total = None if total is None else max(0, total - finished.count)
            click.echo(str(finished), err=True)
            if shown is not None:
                shown.add_earlier(sink.path)
        writer = record_writer(output, sink, manifest.classes, manifest.fake_class, bom=add_bom)
        # Records that appear on the terminal show the progress themselves.
        on_screen = output in (None, STANDARD_OUTPUT) and on_terminal()
        run = Run(detector, writer, shown, show_timings=timings)
        progress = silent if on_screen else on_console
        with writing(shown, on_console):
            failures = run.judge(images, total=total, progress=progress)
    if strict and failures:
        ctx.exit(1)


def claim_options(trust_list: Path | None, *, provenance: bool) -> ClaimOptions:
    """Say what files are asked of their origin.

    Raises:
        InputError: a trust list without ``provenance``, or one that cannot be used.
    """
    if trust_list is None:
        return ClaimOptions(provenance=provenance)
    if not provenance:
        raise InputError(
            "--trust-list says whom to trust of those that --provenance names: give both."
        )
    check_libraries("--trust-list", ("c2pa",), extra="provenance", reports=())
    return ClaimOptions(provenance=True, trust_list=read_trust_list(trust_list))


def _advise(detector: Detector) -> None:
    """Say on standard error where an INT8 bundle does not pay."""
    if detector.bundle.manifest.precision == "int8":
        note = int8_note(detector.engine, detector.precision, cpu_flags())
        if note:
            click.echo(f"Note: {note}", err=True)
