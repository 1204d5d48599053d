"""``glass-calibrate``: find the layers that INT8 costs accuracy."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ..runtime.bundle import BUNDLE_VARIABLE, Bundle, find_bundle
from ..runtime.console import GlassCommand, common_options, step
from ..runtime.errors import InputError
from ..runtime.reports import JSON, MARKDOWN, PICTURE, Makers, check_report_files, write_report
from .histogram import METHODS, Method
from .images import split_images
from .options import DEFAULT_IMAGES, CalibrationOptions

if TYPE_CHECKING:
    from .report import SensitivityReport

_FORMATS = (JSON, MARKDOWN, PICTURE)
_SHOWN = 20  # layers on the screen
_EXAMPLES = """
\b
Examples:
  glass-calibrate photographs/                   the bundle here
  glass-calibrate photographs/ -b gl_vit.glass -o layers.md -o layers.png
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Find the layers that INT8 costs accuracy. Every layer of an FP32 bundle's two backbones "
    "is quantised alone, with ranges from real images, and ranked by how far the logits move. "
    "DIR holds images of the kind that will be judged; a fifth is held out, as glass-export does.",
)
@click.argument(
    "folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "-b",
    "--bundle",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help=f"The FP32 bundle. Default: ${BUNDLE_VARIABLE}, else the only *.glass here.",
)
@click.option(
    "--calibration-images",
    type=int,
    default=DEFAULT_IMAGES,
    show_default=True,
    help="How many of them to calibrate on at most.",
)
@click.option(
    "--calibration-method",
    type=click.Choice(["auto", *METHODS]),
    default="auto",
    show_default=True,
    help="How int8 cuts ranges; auto tries each.",
)
@click.option(
    "-o",
    "--output",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write every layer's error to FILE (.json, .md) or plot the worst (.png); may be given "
    f"several times. The worst {_SHOWN} are shown in any case.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@common_options
def main(
    folder: Path,
    bundle: Path | None,
    calibration_images: int,
    calibration_method: Method | Literal["auto"],
    output: tuple[Path, ...],
    force: bool,
) -> None:
    """Rank layers; see ``glass-calibrate --help``."""
    check_report_files(output, _FORMATS, force=force)
    _check_libraries(output)
    method = None if calibration_method == "auto" else calibration_method
    options = CalibrationOptions(calibration_images, method)
    opened = _open_fp32(bundle or find_bundle(Path.cwd()))
    sets = split_images(folder, options.images)
    # Imported here, so that --help and wrong usage do not wait for ONNX Runtime.
    with step("loading ONNX Runtime"):
        from .report import measure_sensitivity
    command = shlex.join(["glass-calibrate", *sys.argv[1:]])
    report = measure_sensitivity(opened, sets, options, command=command)
    _show(report)
    makers: Makers = {JSON: report.to_json, MARKDOWN: report.to_markdown, PICTURE: report.to_png}
    write_report(output, makers)


def _check_libraries(output: Sequence[Path]) -> None:
    """Refuse before the work what needs a library that is not there."""
    needed = {"onnx": ("calibrating", "export"), "onnxruntime": ("calibrating", "export")}
    if any(path.suffix.lower() == PICTURE for path in output):
        needed["matplotlib"] = ("a plot", "eval")
    for module, (what, extra) in needed.items():
        if find_spec(module) is None:
            raise InputError(
                f"{what} needs {module}, which is not installed: pip install 'glass-edge[{extra}]'."
            )


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
        click.echo(f"\n… and {hidden} more with smaller errors: -o FILE writes all.")
    for note in report.notes:
        click.echo(f"Note: {note}", err=True)
