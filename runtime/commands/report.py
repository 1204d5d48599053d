"""``glass-report``: records that glass-run wrote, as a page or for a review tool."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO

import click

from ..bundle.bundle import Bundle
from ..finding.files import did_you_mean, readable_path
from ..images.encoded import DecodeOptions
from ..machine.errors import InputError
from ..machine.printable import printable
from ..machine.progress import track
from ..machine.signals import ending_on_sigterm
from ..report.making import make_report
from ..report.reading import LeftOut, copy_as_lines, read_records
from ..report.review_tools import FORMATS, FileOrientations, Reviewable
from ..report.rows import Setting
from ..report.selection import Selection
from ..report.summary import Summary, Threshold
from ..report.writing import PageFile, check_new, write_pieces
from ..results.output_file import PARQUET
from ..results.records import Record
from ..storage.store import open_object
from ..storage.urls import is_url
from .console import GlassCommand
from .inputs import settle_decoders
from .options import Folder, common_options, force_option
from .progress import on_console
from .running.output import STANDARD_OUTPUT, StandardOutput
from .running.report import EMBEDDED, check_report, say_where

IN_FOLDER = 20_000
"""Images that a page with a folder shows by default."""
HTML = "html"

_EXAMPLES = """
\b
Examples:
  glass-report verdicts.jsonl                        writes report.html: open it in a browser
  glass-report verdicts.jsonl -o june.html --folder  thumbnails beside the page, for more images
  glass-report verdicts.jsonl -b gl_vit.glass        also what the bundle says of itself
  glass-run images/ -b gl_vit.glass -o - | glass-report -
  glass-report verdicts.jsonl --format label-studio --prefix /data/local-files/?d= -o tasks.json
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Show the verdicts in RECORDS, a .jsonl or .parquet file that glass-run wrote (- for "
    "JSON lines on standard input), on a page to look at. glass-run --report makes the same page "
    "in one go, with what each crop did.",
)
@click.argument("records", metavar="RECORDS")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Default: report.html, or standard output with another --format.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice([HTML, *FORMATS]),
    default=HTML,
    show_default=True,
    help="A page for people, or all records as JSON that a review tool imports.",
)
@click.option(
    "--prefix",
    metavar="TEXT",
    default="",
    help="With another --format than html, put TEXT before each path, such as "
    "/data/local-files/?d= for Label Studio.",
)
@force_option("FILE")
@click.option(
    "-b",
    "--bundle",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The bundle that the images were judged with: the page then names its digest, detector "
    "and threshold.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0.0, 1.0),
    help="P(fake) from which images were called fake. Default: the bundle's, or what the verdicts "
    "show.",
)
@click.option(
    "--root",
    metavar="DIR",
    type=Folder(),
    default=Path(),
    help="The folder that relative paths in RECORDS begin at. Default: the working directory.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help=f"Show at most N images: those with the highest scores, those nearest the threshold and a "
    f"random sample. Default: {EMBEDDED}, or {IN_FOLDER} with --folder.",
)
@click.option(
    "--folder",
    is_flag=True,
    help="Put thumbnails into a folder beside the page instead of into it.",
)
@common_options
def main(
    records: str,
    output: Path | None,
    kind: str,
    prefix: str,
    force: bool,
    bundle: Path | None,
    threshold: float | None,
    root: Path,
    limit: int | None,
    folder: bool,
) -> None:
    """Make a report; see ``glass-report --help``."""
    _check_fits(kind, prefix, page_only=bundle or threshold is not None or limit or folder)
    if kind != HTML:
        export(records, output, kind, prefix, root, force=force)
        return
    page = output or Path("report.html")
    check_report(page, force=force, folder=folder)
    opened = None if bundle is None else Bundle.open(bundle)
    settle_decoders()
    with open_records(records) as lines, ending_on_sigterm():
        left_out = LeftOut()
        summary = summarise(lines, records, left_out)
        check_same_bundle(opened, summary)
        border = _threshold(threshold, opened, summary)
        selection = Selection(limit or (IN_FOLDER if folder else EMBEDDED), border.value)
        for record in read_records(_again(lines), LeftOut()):
            selection.add(record)
        setting = Setting(
            title="standard input" if records == "-" else readable_path(Path(records).name),
            page=page,
            root=root,
            bundle=opened,
            notes=tuple(left_out.sentences()),
            decode=DecodeOptions(allow_damaged=True),
            repeat=() if threshold is None else ("--threshold", str(threshold)),
            advice=": run glass-report where glass-run was run, or name that folder with --root",
        )
        write_report(summary, border, selection, setting, folder=folder)


def write_report(
    summary: Summary, border: Threshold, selection: Selection, setting: Setting, *, folder: bool
) -> None:
    """Make and write a page, and say on standard error what was written.

    Raises:
        OutputError: it cannot be written.
    """
    page = PageFile(setting.page, folder=folder)
    report = make_report(
        summary, border, selection, setting, thumbnails=page.thumbnails, progress=on_console
    )
    page.write(report)
    for note in report.head.notes:
        click.echo(f"Note: {printable(note)}", err=True)
    say_where(setting.page, report.head.shown, report.head.images)


def _check_fits(kind: str, prefix: str, *, page_only: object) -> None:
    """Refuse options that would do nothing.

    Raises:
        InputError: one of them is given.
    """
    if kind != HTML and page_only:
        raise InputError(
            f"--bundle, --threshold, --limit and --folder are for a page, not for --format {kind}: "
            "leave them out."
        )
    if kind == HTML and prefix:
        raise InputError("--prefix is for a review tool: give --format, too.")


def export(
    records: str, output: Path | None, kind: str, prefix: str, root: Path, *, force: bool
) -> None:
    """Write records as JSON for a review tool, and say on standard error what is left out.

    Raises:
        InputError: the records cannot be read, or the file exists.
        OutputError: it cannot be written.
    """
    if output == Path(STANDARD_OUTPUT):
        output = None
    if output is not None:
        check_new(output, force=force)
    reviewable, orientations, left_out = Reviewable(), FileOrientations(root), LeftOut()
    with open_records(records) as lines, ending_on_sigterm():
        found = track(read_records(lines, left_out), "writing", None, on_console)
        pieces = FORMATS[kind](reviewable.among(_some(found, records)), prefix, orientations)
        if output is None:
            for piece in pieces:
                StandardOutput().append(piece.encode())
        else:
            write_pieces(output, pieces)
    for note in (*left_out.sentences(), *reviewable.sentences(), *orientations.sentences()):
        click.echo(f"Note: {note}", err=True)


@contextmanager
def open_records(source: str) -> Iterator[IO[bytes]]:
    """Open a file of records as JSON lines that can be read twice, also standard input or a table.

    Raises:
        InputError: it cannot be read.
    """
    if source == "-":
        if sys.stdin is None:
            raise InputError("standard input is closed, so there are no records to read.")
        file: IO[bytes] = sys.stdin.buffer
    else:
        try:
            remote = is_url(source)
            file = open_object(source, InputError) if remote else open(source, "rb")  # noqa: SIM115
        except FileNotFoundError:
            missing = f"there is no {readable_path(source)}.{did_you_mean(source)}"
            raise InputError(missing) from None
        except OSError as error:
            raise InputError(f"{readable_path(source)} cannot be read: {error.strerror}.") from None
    is_table = source.lower().endswith(PARQUET)
    with file:
        if file.seekable() and not is_table:
            yield file
            return
        with tempfile.TemporaryFile() as copy:
            copy_as_lines(file, copy) if is_table else shutil.copyfileobj(file, copy)
            copy.seek(0)
            yield copy


def _again(lines: IO[bytes]) -> Iterator[bytes]:
    """Read lines once more, and no further than before: a run may still be writing them."""
    end = lines.tell()
    lines.seek(0)
    while lines.tell() < end:
        yield lines.readline(end - lines.tell())


def summarise(lines: IO[bytes], source: str, left_out: LeftOut) -> Summary:
    """Count the records among some lines.

    Raises:
        InputError: there are none.
    """
    summary = Summary()
    records = track(read_records(lines, left_out), "reading", None, on_console)
    for record in _some(records, source):
        summary.add(record)
    return summary


def _some(records: Iterator[Record], source: str) -> Iterator[Record]:
    """Return records, of which there must be one.

    Raises:
        InputError: there are none.
    """
    first = next(records, None)
    if first is None:
        raise InputError(
            f"{'standard input' if source == '-' else readable_path(source)} holds no records: "
            "give a .jsonl or .parquet file that this version of glass-run wrote with -o."
        )
    return chain((first,), records)


def check_same_bundle(bundle: Bundle | None, summary: Summary) -> None:
    """Refuse a bundle that no record names.

    Raises:
        InputError: the records were made with others.
    """
    digests = {name.rpartition("@")[2] for name in summary.bundles}
    if bundle is not None and digests and bundle.digest[:12] not in digests:
        raise InputError(
            f"the records were made with {', '.join(summary.bundles)}, not with {bundle.name}: "
            "name that bundle, or leave --bundle out."
        )


def _threshold(given: float | None, bundle: Bundle | None, summary: Summary) -> Threshold:
    if given is not None:
        return summary.threshold(given, "given with --threshold")
    if bundle is not None and not summary.contradicts(bundle.manifest.threshold):
        return summary.threshold(bundle.manifest.threshold, "from the bundle")
    return summary.threshold(None, "")
