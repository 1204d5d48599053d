"""pyarrow, which reads and writes Parquet, where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..machine.errors import InputError


def load_parquet() -> Any:
    """Return the module ``pyarrow.parquet``.

    Raises:
        InputError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise InputError(
            "a Parquet file needs pyarrow, which is not installed: pip install "
            "'glass-edge[parquet]'."
        ) from None
    return pyarrow.parquet


# What else comes of damage: names that are not UTF-8, columns that are not there, enormous sizes.
_ITS_PYTHON_PART = (ValueError, LookupError, TypeError, MemoryError)


class DamagedError(ValueError):
    """pyarrow cannot read a file, for a reason that lies in its content."""


@contextmanager
def reading() -> Iterator[None]:
    """Tell a damaged file from one that cannot be read; any of pyarrow's errors may be either.

    Raises:
        DamagedError: the content is not what it should be; one line says what is wrong.
        OSError: the file could not be read.
    """
    import pyarrow

    try:
        yield
    except OSError as error:
        if error.errno is not None:  # the system's: pyarrow gives its own no number
            raise
        raise DamagedError(_first_line(error)) from None
    except (pyarrow.ArrowException, *_ITS_PYTHON_PART) as error:
        raise DamagedError(_first_line(error)) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
