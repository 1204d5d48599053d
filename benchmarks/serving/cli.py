"""``glass-bench serve``: what serving costs and gains."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.console import GlassCommand, check_libraries
from ...runtime.commands.inputs import PassedOver, chosen_bundle
from ...runtime.commands.options import (
    bundle_option,
    common_options,
    engine_option,
    list_skipped_option,
)
from ...runtime.finding.sources import find_images
from ..cli_common import (
    TABLES,
    check_output,
    command_line,
    option,
    positive,
    several,
    tables_option,
    write,
)
from ..measuring.bundles import common_views

_COMPARING = "comparing servers"
_MODULES = ("fastapi", "uvicorn", "h11", "python_multipart", "onnxruntime")
_EXAMPLES = """
\b
Examples:
  glass-bench serve photographs/ -b gl_vit.int8.glass
  glass-bench serve photographs/ -b gl_vit.int8.glass --straightforward-bundle gl_vit.glass \\
      -o serve.json -o serve.md
"""
_seconds = click.FloatRange(min=0, min_open=True)


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Compare glass-serve with the server that most would write (FastAPI, Pillow, ONNX "
    "Runtime) and with glass-run on the same IMAGES (files, folders or patterns), which are held "
    "in memory: one image alone, saturation, half of that, and overload.",
)
@click.argument("images", nargs=-1, required=True)
@bundle_option("The bundle that everyone judges with.")
@option(
    "--straightforward-bundle",
    "other",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    show_default=False,
    help="A bundle that the straightforward server also judges with, for example in FP32.",
)
@engine_option
@option("--connections", type=positive, default=16, help="Clients at saturation.")
@option("--rounds", type=several, default=3, help="Rounds of all loads but the overload.")
@option("--seconds", type=_seconds, default=10.0, help="How long each of these loads goes on.")
@option("--overload", type=_seconds, default=60.0, help="How many seconds the overload goes on.")
@list_skipped_option
@tables_option
@common_options
def serve(
    images: tuple[str, ...],
    bundle: Path | None,
    other: Path | None,
    engine: str,
    connections: int,
    rounds: int,
    seconds: float,
    overload: float,
    list_skipped: bool,
    output: tuple[Path, ...],
) -> None:
    """Measure servers; see ``glass-bench serve --help``."""
    check_output(output, TABLES)
    check_libraries(_COMPARING, _MODULES, extra="fastapi", reports=output)
    found = [
        str(Path(path).resolve()) for path in find_images(images, PassedOver(listed=list_skipped))
    ]
    opened = Bundle.open(chosen_bundle(bundle, images))
    beside = Bundle.open(other) if other is not None else None
    if beside is not None:
        common_views([opened, beside], None)  # else more than servers would differ
    from .entry import ServeOptions
    from .measure import measure_serving

    options = ServeOptions(engine, rounds, seconds, connections, overload)
    measured = measure_serving(found, opened, beside, options, command=command_line())
    write(measured, measured.to_markdown(), output)
