"""Pictures of images that were judged before, from their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..claims.claims import ClaimOptions
from ..claims.reading import read_claims
from ..finding.files import image_file
from ..images.decode import read_header
from ..images.encoded import DecodeOptions, Rgb
from ..images.reading import read_file
from ..images.thumbnail import Thumbnail, as_webp, draft, thumbnail_of, webp
from ..machine.cpus import available_cpus
from ..machine.progress import Progress, track
from ..results.records import Verdict
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
    """

    thumbnail: Thumbnail | None = None
    previews: tuple[bytes, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Wanted:
    """An image: its record, its file, and which pictures are wanted of it.

    ``kept`` is a thumbnail that it has already.
    """

    verdict: Verdict
    path: Path
    thumbnail: bool
    previews: bool
    kept: Thumbnail | None = None


class PictureMaker:
    """Makes pictures from files, several at a time, in bounded memory."""

    def __init__(self, decode: DecodeOptions) -> None:
        """Decode as the run did."""
        self._decode = decode
        self._budget = ByteBudget(DEFAULT_MEMORY)

    def make(self, wanted: Sequence[Wanted], progress: Progress) -> Iterator[Pictures]:
        """Make pictures of some images, in their order.

        Files are looked at in any case: one that is gone or has changed is a problem.
        """
        with ThreadPoolExecutor(available_cpus()) as pool:
            found = pool.map(self._make, wanted)
            yield from track(found, "pictures", len(wanted), progress)

    def _make(self, wanted: Wanted) -> Pictures:
        kept = None if wanted.kept is None else as_webp(wanted.kept)
        now = image_file(wanted.path)
        if now is None:
            return Pictures(kept, problem=GONE)
        if now != wanted.verdict.file:
            return Pictures(kept, problem=CHANGED)
        try:
            return self._pictures(wanted, kept)
        except Exception as error:  # one image must not cost the page
            return Pictures(kept, problem=f"Its file cannot be shown: {error}")

    def _pictures(self, wanted: Wanted, kept: Thumbnail | None) -> Pictures:
        if not (wanted.thumbnail or wanted.previews):
            return Pictures(kept)
        content = read_file(wanted.path)
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
