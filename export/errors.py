"""Errors of the export, in the family of :mod:`glass_edge.runtime.machine.errors`."""

from __future__ import annotations

from ..runtime.machine.errors import GlassError


class CheckpointError(GlassError):
    """A checkpoint cannot be read, or does not hold the GLASS that was expected."""


class ParityError(GlassError):
    """The exported graphs do not agree with PyTorch."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """Return the first line of another library's message without its full stop, or the type."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
