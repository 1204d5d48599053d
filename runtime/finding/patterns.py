"""What a pattern of the shell matches.

This differs from :mod:`glob` in three ways. A part of a pattern whose only special characters are
brackets is first taken as a name. A folder that cannot be read is an error and not left out.
``**`` searches each real folder once, as :class:`.folders.Search` does.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Collection, Iterable, Iterator

from .choosing import Skip, in_silence
from .folders import Identity, Search, identity, in_order, refuse

_ANY_DEPTH = "**"


def is_pattern(argument: str) -> bool:
    """Whether an argument is a pattern: it has special characters, and nothing has that name."""
    return glob.has_magic(argument) and not os.path.lexists(argument)


def is_perhaps_a_name(pattern: str) -> bool:
    """Whether a pattern has no other special characters than brackets, which names often have."""
    return not {"*", "?"} & set(pattern)


def matching(pattern: str, skip: Skip = in_silence) -> list[str]:
    """Return the files and folders that a pattern matches, each once and in order.

    A pattern that may be a name and matches nothing is returned as that name.

    Args:
        pattern: see :func:`is_pattern`.
        skip: is told which folders behind ``**`` are passed over.

    Raises:
        InputError: a folder cannot be read.
    """
    whole = os.path.join(pattern, "*") if os.path.basename(pattern) == _ANY_DEPTH else pattern
    found = {path for path in _Matcher(skip).matches(whole) if _is_there(path)}
    if not found and is_perhaps_a_name(pattern):
        return [pattern]
    return in_order(_each_once(found) if _ANY_DEPTH in pattern.split(os.sep) else found)


class _Matcher:
    """Matches a pattern part by part."""

    def __init__(self, skip: Skip) -> None:
        self._skip = skip
        self._left: set[str] = set()  # folders that a ** passed over

    def matches(self, pattern: str) -> Iterator[str]:
        """Yield the paths that match; some may come twice, and some may not exist."""
        if not glob.has_magic(pattern):
            yield pattern
            return
        folder, name = os.path.split(pattern)
        if name == _ANY_DEPTH:
            search = Search(self.matches(folder), self._skip, files=False)
            self._left |= search.left
            yield from search.folders
            return
        for parent in self.matches(folder):
            paths = [os.path.join(parent, found) for found in _names(parent, name)]
            left = self._left if glob.has_magic(name) else ()
            yield from (path for path in paths if path not in left)


def _names(folder: str, pattern: str) -> list[str]:
    """Return the matching names in a folder; hidden ones only if the pattern begins with a dot."""
    is_name = is_perhaps_a_name(pattern) and os.path.lexists(os.path.join(folder, pattern))
    if is_name or not glob.has_magic(pattern):
        return [pattern]
    try:
        names = fnmatch.filter(os.listdir(folder or os.curdir), pattern)
    except OSError as error:
        refuse(error)
        return []
    return [name for name in names if pattern.startswith(".") or not name.startswith(".")]


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except OSError as error:
        refuse(error)
        return False
    return True


def _each_once(paths: Collection[str]) -> Iterable[str]:
    """Keep one of the paths that lead to the same file: the one with the fewest links in it."""
    folders = {folder: identity(folder) for folder in set(map(os.path.dirname, paths))}
    if len(set(folders.values())) == len(folders):
        return paths
    links = {folder: _links_in(folder) for folder in folders}
    found: dict[tuple[Identity | None, str], str] = {}
    for path in sorted(paths, key=lambda path: (links[os.path.dirname(path)], path)):
        folder, name = os.path.split(path)
        found.setdefault((folders[folder], name), path)
    return found.values()


def _links_in(path: str) -> int:
    """Return how many parts of a path are links."""
    parent = os.path.dirname(path)
    return os.path.islink(path) + (_links_in(parent) if parent != path else 0)
