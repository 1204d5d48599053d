"""What all command-line tools of glass-edge share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from .errors import GlassError

INTERNAL_ERROR = 70  # sysexits.h: EX_SOFTWARE
INTERRUPTED = 130  # 128 + SIGINT
_Item = TypeVar("_Item")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class GlassCommand(click.Command):
    """A command whose errors are one sentence and an exit code; ``--debug`` shows more."""

    def invoke(self, ctx: click.Context) -> Any:
        debug = ctx.params.pop("debug", False)
        try:
            return super().invoke(ctx)
        except GlassError as error:
            if debug:
                raise
            _report(ctx, str(error), error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            _report(ctx, "interrupted.", INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if debug:
                raise
            message = (
                f"{type(error).__name__}: {error}. This is a fault of glass-edge: run again with "
                "--debug and report what it shows."
            )
            _report(ctx, message, INTERNAL_ERROR)


def _report(ctx: click.Context, message: str, exit_code: int) -> None:
    """End the command as click ends it for wrong usage: ``Error: sentence`` and a code."""
    click.ClickException(message).show()
    ctx.exit(exit_code)


def common_options(function: _Function) -> _Function:
    """Add ``--debug``, ``--version`` and ``-h`` to a command."""
    function = click.option(
        "--debug", is_flag=True, help="Show the traceback of an error, not only its sentence."
    )(function)
    function = click.version_option(version("glass-edge"), prog_name="glass-edge")(function)
    return click.help_option("-h", "--help")(function)


def track(
    items: Iterable[_Item], label: str, total: int | None, *, shown: bool = True
) -> Iterator[_Item]:
    """Pass items through, with a progress bar on standard error if it is a terminal."""
    with _progress(shown) as progress:
        task = progress.add_task(label, total=total)
        for item in items:
            yield item
            progress.advance(task)


@contextmanager
def step(label: str) -> Iterator[None]:
    """Show that something of unknown length goes on, if standard error is a terminal."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(label):
            yield
    else:
        yield


def _progress(shown: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not (shown and console.is_terminal),
        transient=True,
    )
