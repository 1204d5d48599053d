"""Pictures of images that were judged before, from their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..claims.claims import ClaimOptions
from ..claims.reading import read_claims
from ..containers.container import ReadOptions
from ..containers.judged_images import JudgedImages, state_of
from ..finding.stored import StoredImage
from ..images.decode import read_header
from ..images.encoded import DecodeOptions, Rgb
from ..images.reading import read_file
from ..images.thumbnail import Thumbnail, as_webp, draft, thumbnail_of, webp
from ..machine.cpus import available_cpus
from ..machine.progress import Progress, track
from ..results.records import Verdict
from ..storage.urls import is_url
from ..streaming.view_maker import DEFAULT_MEMORY, ByteBudget

GONE = "Its file was not found."
CHANGED = "Its file has changed since it was judged."

_PREVIEW_QUALITY = 80  # libwebp's: what a detector looks for is not kept, what people see is
_ORIENTATION = ClaimOptions(orientation=True)


@dataclass(frozen=True)
class Pictures:
    """What could be shown of an image.

    Attributes:
        thumbnail: the whole image, small.
        previews: each crop in native pixels, as WebP files, upright.
        problem: why there is none, a sentence; ``None`` if there is.
        file: the image's own file, where it has one.
    """

    thumbnail: Thumbnail | None = None
    previews: tuple[bytes, ...] = ()
    problem: str | None = None
    file: Path | None = None


@dataclass(frozen=True)
class Wanted:
    """An image: its record, its path there, and which pictures are wanted of it.

    ``kept`` is a thumbnail that it has already.
    """

    verdict: Verdict
    path: str
    thumbnail: bool
    previews: bool
    kept: Thumbnail | None = None


class PictureMaker:
    """Makes pictures from files, several at a time, in bounded memory."""

    def __init__(self, root: Path, reading: ReadOptions, decode: DecodeOptions) -> None:
        """Read and decode as the run did; relative paths begin at ``root``."""
        self._root, self._reading, self._decode = root, reading, decode
        self._budget = ByteBudget(DEFAULT_MEMORY)

    def make(self, wanted: Sequence[Wanted], progress: Progress) -> Iterator[Pictures]:
        """Make pictures of some images, in their order.

        Files are looked at in any case: one that is gone or has changed is a problem. Objects are
        looked at only if something is to be read of them.
        """
        images = JudgedImages((each.path for each in wanted), self._root, self._reading)
        with ThreadPoolExecutor(available_cpus()) as pool:
            found = pool.map(partial(self._make, images), wanted)
            yield from track(found, "pictures", len(wanted), progress)

    def _make(self, images: JudgedImages, wanted: Wanted) -> Pictures:
        kept = None if wanted.kept is None else as_webp(wanted.kept)
        if is_url(wanted.path) and not (wanted.thumbnail or wanted.previews):
            return Pictures(kept)
        image = images.find(wanted.path)
        now = state_of(image)
        if image is None or now is None:
            return Pictures(kept, problem=GONE)
        if now != wanted.verdict.file:
            return Pictures(kept, problem=CHANGED)
        try:
            made = self._pictures(wanted, image, kept)
        except Exception as error:  # one image must not cost the page
            return Pictures(kept, problem=f"Its file cannot be shown: {error}")
        return replace(made, file=image if isinstance(image, Path) else None)

    def _pictures(
        self, wanted: Wanted, source: Path | StoredImage, kept: Thumbnail | None
    ) -> Pictures:
        if not (wanted.thumbnail or wanted.previews):
            return Pictures(kept)
        content = read_file(source)
        image = read_header(content, self._decode)
        if (image.width, image.height) != (wanted.verdict.width, wanted.verdict.height):
            return Pictures(kept, problem=CHANGED)
        orientation = read_claims(content, _ORIENTATION).orientation
        with self._budget.holding(image.peak_bytes):
            if wanted.previews:
                rgb = image.decode().rgb
                thumbnail = kept or thumbnail_of(rgb, orientation)
                return Pictures(thumbnail, _previews(rgb, wanted.verdict, orientation))
            return Pictures(thumbnail_of(draft(content, image), orientation))


def _previews(rgb: Rgb, verdict: Verdict, orientation: int) -> tuple[bytes, ...]:
    crops = (
        rgb[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        for crop in verdict.crops
    )
    return tuple(webp(each.copy(), orientation, _PREVIEW_QUALITY) for each in crops)
