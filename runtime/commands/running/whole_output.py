"""An output that is there whole when the run ends well, and else not at all."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from ...finding.files import readable_path
from ...machine.errors import OutputError
from ...machine.signals import ending_on_sigterm
from ...results.output_file import JSON_LINES, PARQUET, Opening, cannot_be_written
from ...results.whole_file import whole_file
from ...storage.urls import is_url


class WholeOutput(io.RawIOBase):
    """Takes the bytes of an output, which :meth:`finish` puts in place."""

    def __init__(self, target: str, file: BinaryIO, put_in_place: Callable[[], None]) -> None:
        """Write to ``file``, which becomes ``target`` when ``put_in_place`` is called."""
        self._target, self._file, self._put_in_place = target, file, put_in_place
        self.finished = False

    def writable(self) -> bool:
        return True

    def write(self, content: bytes, /) -> int:  # type: ignore[override]
        """Write all of some bytes.

        Raises:
            OutputError: the disk is full or gone, or the storage cannot be reached.
        """
        try:
            return self._file.write(content)
        except OSError as error:
            raise _stopped(self._target, error) from None

    def finish(self) -> None:
        """Put the output in place; nothing more comes.

        Raises:
            OutputError: it cannot be.
        """
        try:
            self._put_in_place()
        except OSError as error:
            raise _stopped(self._target, error) from None
        self.finished = True


def is_whole(target: str) -> bool:
    """Whether an output is written whole: an object, or a table, which is none without its end."""
    return is_url(target) or Path(target).suffix.lower() == PARQUET


@contextmanager
def whole_output(target: str, opening: Opening) -> Iterator[WholeOutput]:
    """Open an output that is put in place by :meth:`WholeOutput.finish`.

    If the block ends without it, nothing is written, and standard error says so.

    Raises:
        InputError: the file exists, and must be new.
        OutputError: it cannot be written.
    """
    with ending_on_sigterm(), ExitStack() as place:
        try:
            file = place.enter_context(whole_file(target, replace=opening == "replace"))
        except OSError as error:
            raise cannot_be_written(target, error) from None
        output = WholeOutput(target, file, place.close)
        try:
            yield output
        except BaseException as error:
            if not output.finished:
                click.echo(_nothing_left(target, opening, error), err=True)
            raise


def _nothing_left(target: str, opening: Opening, error: BaseException) -> str:
    name = readable_path(target)
    state = f"no {name} was written"
    if opening == "replace":
        state += ", and one that was there is kept"
    if isinstance(error, KeyboardInterrupt):
        return (
            f"{state}: the run was stopped. Only a run to a {JSON_LINES} file on this machine can "
            "be continued."
        )
    return f"{state}: the run failed."


def _stopped(target: str, error: OSError) -> OutputError:
    return OutputError(
        f"{target} cannot be written: {error.strerror or error}. Make room if the disk is full, "
        "and run again."
    )
