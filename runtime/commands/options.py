"""Arguments and options that mean the same in two or more of glass-edge's commands."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import click
from click.types import IntParamType

from ..bundle.finding import BUNDLE_VARIABLE
from ..engines.registry import AUTO, DEVICE_NAMES, engine_names
from ..finding.files import did_you_mean
from ..judging.options import AUTO_CROPS
from ..machine.printable import printable

_Function = TypeVar("_Function", bound=Callable[..., Any])
_DEFAULT_BUNDLE = (
    f"Default: ${BUNDLE_VARIABLE}, else the only *.glass here, unless images here are judged."
)
_SEVERAL_BUNDLES = "A bundle; may be given several times."


version_option = click.version_option(version("glass-edge"), prog_name="glass-edge")


def common_options(function: _Function) -> _Function:
    """Add ``--debug``, ``--version`` and ``-h`` to a command."""
    function = click.option(
        "--debug", is_flag=True, help="Show the traceback of an error, not only its sentence."
    )(function)
    return click.help_option("-h", "--help")(version_option(function))


class Folder(click.Path):
    """A folder that is there; if it is not, perhaps another was meant."""

    def __init__(self) -> None:
        super().__init__(exists=True, file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(f"{error.message}{printable(did_you_mean(value))}", param, ctx)


class CropsChoice(IntParamType):
    """A number of crops, or ``auto``."""

    def __init__(self, least: int | None = None, most: int | None = None) -> None:
        self._numbers = click.IntRange(least, most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == AUTO_CROPS:
            return value
        try:
            int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor {AUTO_CROPS}.", param, ctx)
        return self._numbers.convert(value, param, ctx)


list_skipped_option = click.option(
    "--list-skipped",
    is_flag=True,
    help="Name each file and folder that the search of folders passes over, and say why.",
)

column_option = click.option(
    "--column",
    metavar="NAME",
    help="The column of a .parquet table that holds the images. Default: the only one that can, or "
    "one called image, image_data, image_bytes or bytes.",
)

folder_argument = click.argument("folder", metavar="DIR", type=Folder())

backbone_option = click.option(
    "--backbone",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="timm/NAME, for a checkpoint with a timm backbone or of a timm classifier; "
    "torchvision/NAME, for one of torchvision's classifiers.",
)


_DETECTOR = (
    click.option(
        "--family",
        metavar="NAME",
        help="Which kind of detector CHECKPOINT holds (docs/detectors.md lists them). Default: "
        "told from its keys.",
    ),
    click.option(
        "--preset",
        metavar="NAME",
        help="How its images become views, where the family's authors do it in several ways. "
        "Default: the family's first.",
    ),
    backbone_option,
    click.option(
        "--backbone-weights",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="The network below the head, for a CHECKPOINT that holds only a head.",
    ),
)


def detector_options(function: _Function) -> _Function:
    """Add what tells a checkpoint's detector: family, preset, backbone and backbone weights."""
    for each in reversed(_DETECTOR):
        function = each(function)
    return function


def bundle_option(what: str) -> Callable[[_Function], _Function]:
    """Add ``--bundle`` for a command that takes one; its help begins with ``what``."""
    return click.option(
        "-b",
        "--bundle",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help=f"{what} {_DEFAULT_BUNDLE}",
    )


def bundles_option(*, required: bool) -> Callable[[_Function], _Function]:
    """Add ``--bundle`` for a command that takes several, as ``paths``."""
    return click.option(
        "-b",
        "--bundle",
        "paths",
        multiple=True,
        required=required,
        metavar="DIR",
        type=click.Path(path_type=Path),
        help=_SEVERAL_BUNDLES if required else f"{_SEVERAL_BUNDLES} {_DEFAULT_BUNDLE}",
    )


threshold_option = click.option(
    "--threshold",
    type=click.FloatRange(0.0, 1.0),
    help="P(fake) from which an image is called fake. Default: the bundle's, which is 0.5 unless "
    "glass-calibrate chose another.",
)

engine_option = click.option(
    "--engine",
    type=click.Choice([AUTO, *engine_names()]),
    default="auto",
    show_default=True,
    help="What executes the graphs.",
)

device_option = click.option(
    "--device",
    type=click.Choice([AUTO, *DEVICE_NAMES]),
    default="auto",
    show_default=True,
    help="Where it executes them.",
)

engine_folder_option = click.option(
    "--engine-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where built engines are kept. Default: the user's cache.",
)

threads_option = click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="The engine's CPU threads. Default: all.",
)


def report_option(text: str) -> Callable[[_Function], _Function]:
    """Add ``--output`` for a command that writes its report to any number of files."""
    return click.option(
        "-o",
        "--output",
        multiple=True,
        metavar="FILE",
        type=click.Path(path_type=Path),
        help=text,
    )


def force_option(what: str) -> Callable[[_Function], _Function]:
    """Add ``--force``, with which ``what`` is replaced."""
    return click.option("--force", is_flag=True, help=f"Replace {what} if it exists.")
