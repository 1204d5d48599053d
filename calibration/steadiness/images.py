"""The images that a bundle's rule and scores are found on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...runtime.finding.choosing import Skip, in_silence
from ...runtime.finding.sources import find_images
from ...runtime.machine.errors import InputError
from ...runtime.machine.progress import Progress, silent, track
from ..images import digest_of


@dataclass(frozen=True)
class SteadinessImages:
    """Different images.

    Attributes:
        paths: their files.
        labels: the class of each, if they lie in folders of the classes' names; or nothing.
        digest: the SHA-256 over their hashes.
    """

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    digest: str


def choose_images(
    folder: Path,
    classes: Sequence[str],
    most: int,
    skip: Skip = in_silence,
    progress: Progress = silent,
) -> SteadinessImages:
    """Search a folder for images; of files with equal bytes only one is used.

    If there are more than ``most``, those used are spread evenly over the folder.

    Args:
        folder: searched recursively. If it has a folder named as one of the classes, these folders
            say what the images are.
        classes: the bundle's.
        most: the largest number of images.
        skip: is told what the search passes over.
        progress: is told how many files have been read.

    Raises:
        ImageError: a file cannot be read.
        InputError: there are none, or only one of the classes has a folder or images.
    """
    labelled = any((folder / name).is_dir() for name in classes)
    labels = labelled_images(folder, classes, skip) if labelled else {}
    paths = list(labels) or list(find_images([str(folder)], skip))
    count = min(most, len(paths))
    spread = [paths[place * len(paths) // count] for place in range(count)]
    reading = track(reversed(spread), "reading images", count, progress)
    hashed = {digest_of(Path(path)): path for path in reading}
    chosen = tuple(sorted(hashed.values()))
    return SteadinessImages(
        chosen,
        tuple(labels[path] for path in chosen) if labelled else (),
        hashlib.sha256("".join(sorted(hashed)).encode()).hexdigest(),
    )


def labelled_images(
    folder: Path, classes: Sequence[str], skip: Skip = in_silence
) -> dict[str, str]:
    """Return the class of each image's path: the name of its folder in ``folder``.

    Raises:
        InputError: a class has no folder, or no image in it.
    """
    labels: dict[str, str] = {}
    for name in classes:
        place = folder / name
        if not place.is_dir():
            raise InputError(
                f"there is no folder {place}: put the images of each class, {' and '.join(classes)}"
                f", into a folder of its name in {folder}."
            )
        labels |= dict.fromkeys(find_images([str(place)], skip), name)
    return labels
