"""Searches folders, and those that links in them lead to, each real folder once."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from ..machine.errors import InputError
from .choosing import Reason, Skip, in_silence, reason_to_skip

Identity: TypeAlias = tuple[int, int]
"""Device and inode: equal for all paths that lead to the same file or folder."""


class Search:
    """Everything below some folders.

    Links to folders are followed after everything else was searched. A link to a folder that was
    searched before is passed over. So circles end, and each folder is found at its own place
    rather than at a link's. A link to a folder above itself or above a root is passed over, too,
    because following it could search the whole machine. Hidden folders are passed over.

    Attributes:
        folders: the paths of all folders, in order.
        images: the paths of the images in them, in order.
        followed: the links among the folders.
        left: the folders that were passed over because they are searched elsewhere, or lie above
            a link or a root.
    """

    def __init__(
        self, roots: Iterable[str], skip: Skip = in_silence, *, files: bool = True
    ) -> None:
        """Search at once.

        Args:
            roots: folders; an empty name is the working directory. Missing ones hold nothing.
            skip: is told what is passed over.
            files: whether to look for images.

        Raises:
            InputError: a folder cannot be read, so images would be missing.
        """
        self.followed: list[str] = []
        self.left: set[str] = set()
        self._skip, self._files = skip, files
        self._folders: dict[str, None] = {}
        self._images: list[str] = []
        self._searched: dict[Identity, str] = {}
        self._links: deque[str] = deque()
        self._above: set[Identity] = set()
        for root in sorted(roots, key=os.path.islink):
            self._above |= _identities_above(root)
            self._search(root, linked=os.path.islink(root))
        while self._links:
            self._follow(self._links.popleft())
        self.folders = in_order(self._folders)
        self.images = in_order(self._images)

    def _search(self, root: str, *, linked: bool = False) -> None:
        """Search a folder without following links; of a linked one only what is new."""
        pending = [root]
        while pending:
            folder = pending.pop()
            found = identity(folder)
            if folder in self._folders or found is None:
                continue
            if linked and found in self._searched:
                self._leave(folder, Reason.SEARCHED)
                continue
            self._searched.setdefault(found, folder)
            self._folders[folder] = None
            pending += reversed(list(self._folders_in(folder)))

    def _folders_in(self, folder: str) -> Iterator[str]:
        """Yield the real folders in a folder; note its links and images."""
        for entry in _entries(folder):
            path = os.path.join(folder, entry.name)
            if not _is_folder(entry):
                self._take_file(entry, path)
            elif entry.name.startswith("."):
                self._skip(path, Reason.HIDDEN_FOLDER)
            elif _is_link(entry):
                self._links.append(path)
            else:
                yield path

    def _take_file(self, entry: os.DirEntry[str], path: str) -> None:
        if not self._files:
            return
        if reason := reason_to_skip(entry):
            self._skip(path, reason)
        else:
            self._images.append(path)

    def _follow(self, link: str) -> None:
        target = identity(link)
        if target is None or link in self._folders:
            return
        if target in self._searched:
            self._leave(link, Reason.SEARCHED)
        elif target in self._above | _identities_above(link):
            self._leave(link, Reason.ABOVE)
        else:
            self.followed.append(link)
            self._search(link, linked=True)

    def _leave(self, folder: str, reason: Reason) -> None:
        self.left.add(folder)
        self._skip(folder, reason)


def in_order(paths: Iterable[str]) -> list[str]:
    """Sort paths by name, in each folder its files before its folders."""
    return sorted(paths, key=_place)


def identity(path: str | Path) -> Identity | None:
    """Return the identity of a file or folder, or ``None`` if it cannot be looked at."""
    with suppress(OSError):
        state = os.stat(path or os.curdir)
        return state.st_dev, state.st_ino
    return None


def refuse(error: OSError) -> None:
    """Refuse a folder that cannot be read; one that vanished meanwhile is passed over.

    Raises:
        InputError: the folder is there, and its images would be missing.
    """
    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}), so images would "
            "be missing: give yourself the right to read it, or name the others one by one."
        )


def _place(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition(os.sep)
    return folder.replace(os.sep, "\0"), name  # so that "a/b" comes before "a-b"


def _identities_above(path: str) -> set[Identity]:
    """Return the identities of the folders above a path; of a link, those above the link itself."""
    parent = Path(os.path.dirname(os.path.abspath(path))).resolve()
    return {found for each in (parent, *parent.parents) if (found := identity(each))}


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder or os.curdir) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        refuse(error)
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or no right to look
        return False


def _is_link(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a link; Windows' junctions are."""
    return entry.is_symlink() or getattr(entry, "is_junction", bool)()
