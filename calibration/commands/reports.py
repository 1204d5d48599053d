"""The reports of ``glass-quantize``, for which no bundle is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import click

from ...runtime.bundle.bundle import BUNDLE_SUFFIX, Bundle
from ...runtime.commands.console import check_libraries
from ...runtime.commands.progress import on_console
from ...runtime.commands.reports import (
    JSON,
    MARKDOWN,
    PICTURE,
    Makers,
    check_report_files,
    typed_command,
    write_report,
)
from ...runtime.machine.errors import InputError
from ..images import ImageSets
from ..options import CalibrationOptions, check_judgements
from .options import Lowering, ReportName
from .sources import LIBRARIES, chosen_source, open_fp32
from .summary import print_notes

FORMATS = (JSON, MARKDOWN, PICTURE)
_SHOWN = 20  # layers on the screen


def report_layers(
    named: Path | None, lowering: Lowering, outputs: Sequence[Path], *, force: bool
) -> None:
    """Print how much accuracy each layer loses in INT8, and write that to files.

    Args:
        named: the FP32 bundle, or ``None`` for the one that is meant without a name.
        lowering: the user's choices.
        outputs: the files.
        force: replace files.

    Raises:
        GlassError: see :func:`..int8.report.measure_sensitivity`, or a file cannot be written.
    """
    given = _checked("layers", named, lowering, outputs, force=force)
    with on_console("loading ONNX Runtime"):  # not before wrong usage was refused
        from ..int8.report import measure_sensitivity
    report = measure_sensitivity(*given, command=_command(), progress=on_console)
    click.echo(f"{report.summary()}\n\n{report.table(_SHOWN)}")
    hidden = len(report.layers) - _SHOWN
    if hidden > 0:
        click.echo(f"\n… and {hidden} more, worth less to keep; -o FILE writes them all.")
    finish(report, outputs)


def report_exploration(
    named: Path | None, lowering: Lowering, outputs: Sequence[Path], *, force: bool
) -> None:
    """Print what lower precisions buy, and write that to files; see :func:`report_layers`.

    Raises:
        GlassError: see :func:`..making.explore.explore`, or a file cannot be written.
    """
    check_judgements(lowering.judgements)
    given = _checked("explore", named, lowering, outputs, force=force)
    with on_console("loading ONNX Runtime"):  # as above
        from ..making.explore import explore
    report = explore(*given, lowering.judgements, command=_command(), progress=on_console)
    click.echo(f"{report.summary()}\n\n{report.table()}\n\n{report.legend()}")
    finish(report, outputs)


class _Given(NamedTuple):
    """What a report is made from."""

    source: Bundle
    images: ImageSets
    options: CalibrationOptions


def _checked(
    kind: ReportName,
    named: Path | None,
    lowering: Lowering,
    outputs: Sequence[Path],
    *,
    force: bool,
) -> _Given:
    """Refuse wrong usage, open the bundle, and find the images."""
    for path in outputs:
        if path.suffix.lower() == BUNDLE_SUFFIX:
            raise InputError(
                f"{path} is named like a bundle, and --{kind} makes a report: give a name that "
                "ends in .json, .md or .png, or ask for --precision instead."
            )
    check_report_files(outputs, FORMATS, force=force)
    check_libraries("quantizing", LIBRARIES, extra="quantize", reports=outputs)
    options = lowering.calibration()
    if lowering.calibrate is None:
        raise InputError(
            f"--{kind} measures on images of the kind that will be judged: name their folder with "
            "--calibrate."
        )
    source = open_fp32(chosen_source(named, lowering), on_console)
    return _Given(source, lowering.images_in(lowering.calibrate, on_console), options)


def _command() -> str:
    return typed_command("glass-quantize")


class _Report(Protocol):
    @property
    def notes(self) -> Sequence[str]: ...
    def to_json(self) -> bytes: ...
    def to_markdown(self) -> str: ...
    def to_png(self) -> bytes: ...


def finish(report: _Report, outputs: Sequence[Path]) -> None:
    """Print the notes and write the files."""
    print_notes(report.notes)
    makers: Makers = {JSON: report.to_json, MARKDOWN: report.to_markdown, PICTURE: report.to_png}
    write_report(outputs, makers)
