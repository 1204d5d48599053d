"""Where built things are kept between runs: in the user's cache folder, never in a bundle."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock

from .errors import OutputError

CACHE_VARIABLE = "GLASS_CACHE"
_LOCK = ".lock"
_log = logging.getLogger("glass_edge")


def cache_folder(*parts: str) -> Path:
    """Return a folder for built things, made if it does not exist.

    It lies below ``GLASS_CACHE``, else below ``glass-edge`` in ``XDG_CACHE_HOME``, else in
    ``~/.cache``. What is made is its owner's alone; a folder that is there stays as it is.

    Raises:
        OutputError: it cannot be made. A caller that works without it calls
            :func:`go_on_without`.
    """
    base = _base_folder()
    folder = base
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in parts:  # one by one: parents made on the way would be anybody's
            folder /= part
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _no_cache(f"the cache folder {base} cannot be written ({error.strerror})") from None
    return folder


def go_on_without(missing: OutputError) -> None:
    """Log once that there is no cache, and what that means: a cache is only a convenience.

    Commands configure no logging, so the warning becomes a line on standard error.

    Args:
        missing: what :func:`cache_folder` raised.
    """
    _say_once(f"Note: nothing is kept for the next run: {missing}")


@cache
def _say_once(note: str) -> None:
    _log.warning(note)


def _base_folder() -> Path:
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "glass-edge"
    try:
        return Path.home() / ".cache" / "glass-edge"
    except RuntimeError:  # a user without a name, and no HOME
        raise _no_cache("there is no home folder for a cache") from None


def _no_cache(why: str) -> OutputError:
    return OutputError(f"{why}: set {CACHE_VARIABLE} to a folder that may be written.")


def recent_folder(kind: str, name: str, keep: int) -> Path:
    """Return the folder ``name`` of one kind of built things; delete the least recently used.

    Every export makes a new bundle, so without this the cache would only grow.

    Args:
        kind: a folder that holds one folder for each name; files in it are left alone.
        name: the folder to use now.
        keep: how many folders stay, this one included.

    Raises:
        OutputError: it cannot be made.
    """
    folder = cache_folder(kind, name)
    used: list[tuple[float, Path]] = []
    with suppress(OSError):  # a cache that can only be read
        os.utime(folder)
    for other in folder.parent.iterdir():
        with suppress(OSError):  # dropped by another process just now
            if other.is_dir():
                used.append((other.stat().st_mtime, other))
    for _, other in sorted(used)[:-keep]:
        shutil.rmtree(other, ignore_errors=True)
    return folder


@contextmanager
def alone_with(kind: str) -> Iterator[None]:
    """Wait until no other thread or process works on one kind of built things, and let none begin.

    Where nothing can be locked, in a cache that can only be read or on a file system without locks,
    the block runs all the same.

    Raises:
        OutputError: the cache folder cannot be made.
    """
    folder = cache_folder(kind)
    with ExitStack() as stack:
        with suppress(OSError, NotImplementedError):
            stack.enter_context(FileLock(folder / _LOCK))
        yield
