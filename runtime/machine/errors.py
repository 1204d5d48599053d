"""The one family of exceptions that glass-edge raises on purpose.

Every message is one sentence or two: what happened, why, and what to do. Each class
carries the exit code that the command-line tools end with.
"""

from __future__ import annotations


class GlassError(Exception):
    """Base of all errors that a user can cause and mend."""

    exit_code = 2


class BundleError(GlassError):
    """A bundle is missing, damaged, of an unknown version, or does not fit together."""


class ImageError(GlassError):
    """An image cannot be read, decoded or judged; a run records it and goes on."""


class UnreadableError(ImageError):
    """An image's file is missing or could not be read: a cause that may pass, so it is retried."""


class FaultError(ImageError):
    """Something else went wrong than what glass-edge foresees, while it dealt with an image."""

    @classmethod
    def of(cls, error: Exception) -> FaultError:
        """Return an error that says what went wrong, and is caused by it."""
        fault = cls(f"{type(error).__name__}: {error}. This is a fault of glass-edge.")
        fault.__cause__ = error
        return fault


class EngineError(GlassError):
    """An engine is unknown, not installed, or cannot run the bundle as asked."""


class InputError(GlassError):
    """What was asked for makes no sense: paths, options or arguments."""


class OutputError(GlassError):
    """Results cannot be written where they were asked for."""
