"""``glass-run``: judge images with a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from ..bundle.bundle import Bundle
from ..containers.container import ReadOptions
from ..judging.detector import Detector
from ..judging.options import DetectorOptions
from ..judging.same_run import SameRun
from ..machine.environment import cpu_flags
from ..machine.progress import silent
from ..report.writing import is_report
from ..results.output_file import Opening, OutputFile
from ..results.resume import Retry, take_up
from .console import GlassCommand
from .inputs import PassedOver, chosen_bundle, chosen_images, note_missing, settle_decoders
from .judging import judging_options
from .options import common_options
from .progress import on_console
from .running.advice import int8_note
from .running.judging import Run
from .running.options import run_options
from .running.output import (
    STANDARD_OUTPUT,
    check_output,
    finish,
    on_terminal,
    open_output,
    record_writer,
)
from .running.report import RunReport, check_report, writing

_EXAMPLES = """
\b
Examples:
  glass-run photo.jpg --bundle gl_vit.glass    one image, a table on the screen
  glass-run images/ -o verdicts.jsonl          a folder, one JSON object per line
  glass-run images/ -o verdicts.jsonl --resume go on after a stop of any kind
  glass-run 'images/**/*.png' -o - | jq .score a pattern, JSON lines on stdout
  glass-run images/ --report report.html       a page to look at, with every crop
  glass-run photos.tar more.zip -o all.jsonl   archives, whose members are read in place
  find . -name '*.jpg' -print0 | glass-run -0 - --bundle gl_vit.glass -o verdicts.csv
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Judge images: files, folders (searched recursively), glob patterns, archives (.tar, "
    ".zip), tables (.parquet), addresses (s3://bucket/prefix), or - for a list of paths and "
    "addresses on standard input.",
)
@run_options
@judging_options
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
    column: str | None,
    list_skipped: bool,
    judging: DetectorOptions,
    report: Path | None,
    timings: bool,
    strict: bool,
    tested: bool,
) -> None:
    """Judge images; see ``glass-run --help``."""
    if not paths and (report is not None or not tested):
        raise click.UsageError("Missing argument 'PATH...'.")
    options = replace(
        judging,
        influence=judging.influence or report is not None,
        thumbnails=report is not None,
    )
    reading = ReadOptions(column)
    images, total = chosen_images(paths, PassedOver(listed=list_skipped), reading, null=null)
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
    settle_decoders(options.max_pixels)
    manifest = detector.bundle.manifest
    shown = None if report is None else RunReport(report, paths, detector, reading)
    opening: Opening = "keep" if resume else "replace" if force else "new"
    with open_output(output, opening) as sink:
        if resume and isinstance(sink, OutputFile):
            finished = take_up(sink, SameRun(detector, reading), retry_errors)
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
            finish(writer, sink)
    if strict and failures:
        ctx.exit(1)


def _advise(detector: Detector) -> None:
    """Say on standard error where an INT8 bundle does not pay."""
    if detector.bundle.manifest.precision == "int8":
        note = int8_note(detector.engine, detector.precision, cpu_flags())
        if note:
            click.echo(f"Note: {note}", err=True)
