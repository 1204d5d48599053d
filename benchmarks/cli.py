"""``glass-bench``: measure, side by side, in one run."""

from __future__ import annotations

import click

from .engines.cli import engines
from .pipeline.cli import pipeline
from .run.cli import run
from .scaling.cli import scaling
from .show.cli import show
from .views.cli import decoders, views


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure glass-edge against what would be used instead."""


for command in (views, decoders, engines, run, pipeline, show, scaling):
    main.add_command(command)
