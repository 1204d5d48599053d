"""``glass-calibrate``: find the layers where INT8 costs accuracy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..runtime.bundle.bundle import Bundle
from ..runtime.commands.console import GlassCommand, check_libraries
from ..runtime.commands.inputs import PassedOver, chosen_bundle, settle_decoders
from ..runtime.commands.options import (
    bundle_option,
    common_options,
    folder_argument,
    force_option,
    list_skipped_option,
    report_option,
)
from ..runtime.commands.progress import on_console
from ..runtime.commands.reports import (
    JSON,
    MARKDOWN,
    PICTURE,
    Makers,
    check_report_files,
    typed_command,
    write_report,
)
from ..runtime.machine.errors import InputError
from .images import split_images
from .int8.histogram import METHODS, Method
from .options import DEFAULT_IMAGES, CalibrationOptions

if TYPE_CHECKING:
    from .int8.report import SensitivityReport

_Function = TypeVar("_Function", bound=Callable[..., Any])
_AUTO = "auto"
_FORMATS = (JSON, MARKDOWN, PICTURE)
_SHOWN = 20  # layers on the screen
_EXAMPLES = """
\b
Examples:
  glass-calibrate photographs/                   the bundle here
  glass-calibrate photographs/ -b gl_vit.glass -o layers.md -o layers.png
"""


def _named_method(context: click.Context, option: click.Parameter, name: str) -> str | None:
    return None if name == _AUTO else name


def calibration_options(function: _Function) -> _Function:
    """Add ``--calibration-images`` and ``--calibration-method``, which is ``None`` for auto."""
    function = click.option(
        "--calibration-method",
        type=click.Choice([_AUTO, *METHODS]),
        default=_AUTO,
        show_default=True,
        callback=_named_method,
        help="How int8 clips ranges; auto tries each.",
    )(function)
    return click.option(
        "--calibration-images",
        type=int,
        default=DEFAULT_IMAGES,
        show_default=True,
        help="The largest number of images to calibrate on.",
    )(function)


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Find the layers where INT8 costs accuracy. Each layer of an FP32 bundle's two backbones "
    "is quantised alone, with ranges from real images, and ranked by how far the logits move. DIR "
    "holds images of the kind that will be judged; a fifth is held out, as in glass-export.",
)
@folder_argument
@bundle_option("The FP32 bundle.")
@calibration_options
@report_option(
    "Write every layer's error to FILE (.json, .md) or plot the worst (.png); may be given "
    f"several times. The worst {_SHOWN} are shown in any case."
)
@force_option("FILE")
@list_skipped_option
@common_options
def main(
    folder: Path,
    bundle: Path | None,
    calibration_images: int,
    calibration_method: Method | None,
    output: tuple[Path, ...],
    force: bool,
    list_skipped: bool,
) -> None:
    """Rank layers; see ``glass-calibrate --help``."""
    check_report_files(output, _FORMATS, force=force)
    check_libraries("calibrating", ["onnx", "onnxruntime"], extra="export", reports=output)
    settle_decoders()
    options = CalibrationOptions(calibration_images, calibration_method)
    opened = _open_fp32(chosen_bundle(bundle, [str(folder)]))
    sets = split_images(folder, options.images, PassedOver(listed=list_skipped))
    # Imported here, so that --help and wrong usage do not wait for ONNX Runtime.
    with on_console("loading ONNX Runtime"):
        from .int8.report import measure_sensitivity
    command = typed_command("glass-calibrate")
    report = measure_sensitivity(opened, sets, options, command=command, progress=on_console)
    _show(report)
    makers: Makers = {JSON: report.to_json, MARKDOWN: report.to_markdown, PICTURE: report.to_png}
    write_report(output, makers)


def _open_fp32(path: Path) -> Bundle:
    bundle = Bundle.open(path)
    precision = bundle.manifest.precision
    if precision != "fp32":
        raise InputError(f"{bundle.name} is {precision}; name the FP32 bundle it came from.")
    return bundle


def _show(report: SensitivityReport) -> None:
    click.echo(f"{report.summary()}\n\n{report.table(_SHOWN)}")
    hidden = len(report.layers) - _SHOWN
    if hidden > 0:
        click.echo(f"\n… and {hidden} more with smaller errors; -o FILE writes them all.")
    for note in report.notes:
        click.echo(f"Note: {note}", err=True)
