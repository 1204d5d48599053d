"""``glass-calibrate``: says what took its place."""

from __future__ import annotations

import click

from ...runtime.commands.console import GlassCommand
from ...runtime.machine.errors import InputError


@click.command(
    cls=GlassCommand,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("anything", nargs=-1, type=click.UNPROCESSED)
def main(anything: tuple[str, ...]) -> None:
    """Refuse whatever is asked."""
    raise InputError(
        "glass-calibrate is gone: glass-quantize --layers --calibrate DIR shows how much accuracy "
        "each layer loses in INT8."
    )
