"""What all command-line tools of glass-edge share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from ..machine.errors import GlassError, InputError
from ..machine.printable import printable
from ..machine.signals import Interrupted
from .reports import PICTURE

INTERNAL_ERROR = 70  # sysexits.h: EX_SOFTWARE
INTERRUPTED = 130  # 128 + SIGINT
CLOSED_PIPE = 141  # 128 + SIGPIPE, which ends other programs in `… | head`
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}  # where a module bears another name


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
        except (KeyboardInterrupt, click.Abort) as error:
            code = error.exit_code if isinstance(error, Interrupted) else INTERRUPTED
            _report(ctx, "interrupted.", code)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except BrokenPipeError:
            _forget_output()
            ctx.exit(CLOSED_PIPE)
        except Exception as error:
            if debug:
                raise
            message = (
                f"{type(error).__name__}: {error}. This is a fault of glass-edge: run again with "
                "--debug and report what it shows."
            )
            _report(ctx, message, INTERNAL_ERROR)


class GlassGroup(click.Group):
    """A program of several commands, which proposes one for one that it does not have."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and not ctx.resilient_parsing:
            close = get_close_matches(cmd_name, self.list_commands(ctx), n=1)
            meant = f"Did you mean {close[0]}?" if close else f"See {ctx.command_path} --help."
            ctx.fail(f"there is no command {printable(cmd_name)}. {meant}")
        return found


def _report(ctx: click.Context, message: str, exit_code: int) -> None:
    """End the command as click ends it for wrong usage: ``Error: sentence`` and a code."""
    lines = map(printable, message.split("\n"))  # some engines' messages have several
    click.ClickException("\n".join(lines)).show()
    ctx.exit(exit_code)


def _forget_output() -> None:
    """Let what Python still holds for standard output go nowhere, and not fail at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def check_libraries(
    work: str, modules: Iterable[str], *, extra: str, reports: Sequence[Path]
) -> None:
    """Refuse before the work what needs a library that is not there.

    Args:
        work: what needs all of ``modules``, as the subject of a sentence.
        modules: by the names that they are imported by.
        extra: the extra of glass-edge that installs them.
        reports: files to write after the work; a plot needs matplotlib.

    Raises:
        InputError: a library is not installed.
    """
    needed = [(work, module, extra) for module in modules]
    if any(path.suffix.lower() == PICTURE for path in reports):
        needed.append(("a plot", "matplotlib", "eval"))
    for what, module, source in needed:
        if find_spec(module) is None:
            raise _missing(what, module, source)


@contextmanager
def needing_libraries(work: str, *, extra: str) -> Iterator[None]:
    """Say of an import in the block that fails what needs it and which extra installs it.

    Raises:
        InputError: a library is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise _missing(work, error.name or str(error), extra) from None


def _missing(work: str, module: str, extra: str) -> InputError:
    name = _DISTRIBUTIONS.get(module, module)
    return InputError(
        f"{work} needs {name}, which is not installed: pip install 'glass-edge[{extra}]'."
    )
