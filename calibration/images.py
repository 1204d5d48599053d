"""Divides the user's images: some to calibrate on, others to compare verdicts on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..runtime.bundle.bundle import sha256_of
from ..runtime.finding.choosing import Skip, in_silence
from ..runtime.finding.sources import find_images
from ..runtime.machine.errors import ImageError, InputError
from ..runtime.machine.progress import Progress, silent, track
from ..runtime.streaming.draws import DrawnBatch
from ..runtime.views.batch import Pixels, ViewInfo
from .errors import CalibrationError

FEWEST = 5  # four to calibrate on and one to hold out
ENOUGH = 64
_HELD_OUT = 5  # one image in five
_FLAT = 1.0  # standard deviation in grey levels below which a view shows nothing
_SATURATED = 0.9  # share of values at 0 or 255
_SEVERAL = 3  # dimensions of an image's views of a stream that has one
_MOST = 0.5  # share of unsuitable images above which ranges mean nothing


@dataclass(frozen=True)
class ImageSets:
    """Files to calibrate on, others to compare verdicts on, and a digest of the former."""

    calibration: tuple[Path, ...]
    held_out: tuple[Path, ...]
    digest: str

    def notes(self) -> list[str]:
        """Return what the user should know if there are few images."""
        count = len(self.calibration)
        if count >= ENOUGH:
            return []
        return [
            f"only {count} images to calibrate on: ranges may be too narrow for others. "
            f"{ENOUGH} or more of the kind that will be judged are better."
        ]


def split_images(
    folder: Path, limit: int, skip: Skip = in_silence, progress: Progress = silent
) -> ImageSets:
    """Divide a folder's images by their content, which gives the same sets on every machine.

    One in five is held out. Of files with equal bytes only one is used, so that no image is on both
    sides. If the folder has more images than needed, those used are spread evenly over it, so
    that each of its folders has its share. ``skip`` is told what the search of it passes over,
    ``progress`` how many images have been read.

    Raises:
        CalibrationError: there are fewer than five different images.
        ImageError: a file cannot be read.
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} with images to calibrate on.")
    paths = [Path(path) for path in find_images([str(folder)], skip)]
    wanted = max(FEWEST, limit + -(-limit // (_HELD_OUT - 1)))
    count = min(wanted, len(paths))
    spread = [paths[place * len(paths) // count] for place in range(count)]
    reading = track(reversed(spread), "reading images", len(spread), progress)
    hashed = {digest_of(path): path for path in reading}
    order = sorted(hashed)
    if len(order) < FEWEST:
        raise CalibrationError(
            f"{folder} holds {len(order)} different images, and at least {FEWEST} are needed: "
            f"give a folder of {ENOUGH} or more images of the kind that will be judged."
        )
    held_out = max(1, len(order) // _HELD_OUT)
    chosen = order[held_out : held_out + limit]
    return ImageSets(
        calibration=tuple(hashed[digest] for digest in chosen),
        held_out=tuple(hashed[digest] for digest in order[:held_out]),
        digest=hashlib.sha256("".join(chosen).encode()).hexdigest(),
    )


def digest_of(path: Path) -> str:
    """Return the SHA-256 of an image file's bytes.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from None


@dataclass
class Suitability:
    """Counts what makes images unsuitable for measuring the ranges of a network's values."""

    images: int = 0
    unreadable: int = 0
    flat: int = 0
    saturated: int = 0
    grey: int = 0
    small: int = 0
    crop_size: int = 0

    def add(self, batch: DrawnBatch) -> None:
        """Look at the views of some images, of several draws at the first."""
        self.images += len(batch.infos)
        self.unreadable += len(batch.outcomes) - len(batch.infos)
        for row, info in enumerate(batch.infos):
            views = [_views(pixels[row]) for pixels in batch.views.values()]
            self._look(info, views, drawn=info.draws[0].seed is not None)

    def _look(self, info: ViewInfo, views: list[Pixels], *, drawn: bool) -> None:
        """Look at one image's views, ``(n, p, p, 3)`` of each stream."""
        self.crop_size = max(pixels.shape[1] for pixels in views)
        # Without the padding: of drawn crops it lies at the end, of a centred image all around it.
        shown = [_unpadded(pixels, info.height, info.width, drawn=drawn) for pixels in views]
        self.flat += all(pixels.std(axis=(0, 1, 2)).max() < _FLAT for pixels in shown[:1])
        ends = [np.mean((pixels == 0) | (pixels == 255)) for pixels in shown[-1:]]
        self.saturated += all(share > _SATURATED for share in ends)
        self.grey += all(np.ptp(pixels, axis=3).max() < 1.0 for pixels in shown[:1])
        self.small += drawn and min(info.height, info.width) < self.crop_size

    def check(self) -> list[str]:
        """Return what the user should know.

        Raises:
            CalibrationError: most images are flat or saturated, or none can be read.
        """
        if not self.images:
            raise CalibrationError("none of the calibration images can be read.")
        for count, what in ((self.flat, "of one colour"), (self.saturated, "black or white only")):
            if count > _MOST * self.images:
                raise CalibrationError(
                    f"{count} of {self.images} calibration images are {what}: ranges measured on "
                    "them would clip real photographs; give images of the kind that will be judged."
                )
        notes = []
        if self.grey == self.images:
            notes.append("all calibration images are grey: colour photographs may be judged worse.")
        if self.small > _MOST * self.images:
            notes.append(
                f"{self.small} of {self.images} calibration images are smaller than a crop of "
                f"{self.crop_size}x{self.crop_size}, and the rest of it is black: larger ones may "
                "be judged worse."
            )
        if self.unreadable:
            notes.append(f"{self.unreadable} calibration images could not be read.")
        return notes


def _views(pixels: Pixels) -> Pixels:
    """Return an image's views of one stream, of several draws the first, ``(n, p, p, 3)``."""
    return pixels[0] if pixels.ndim > _SEVERAL else pixels[np.newaxis]


def _unpadded(views: Pixels, height: int, width: int, *, drawn: bool) -> Pixels:
    """Return the part of views ``(n, p, p, 3)`` that an image of this size covers at least."""
    if drawn:
        return views[:, :height, :width]
    top, left = (max(0, views.shape[1] - side) // 2 for side in (height, width))
    return views[:, top : top + height, left : left + width]
