"""What a JPEG's markers say about it, without decoding (ITU-T T.81, annexes B and G)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import NamedTuple

from ..finding.signatures import CONVERT
from ..machine.errors import ImageError

_MOST_SCANS = 100
_MOST_SEGMENTS = 10_000  # a colour profile of 16 MB has 255
_COEFFICIENTS = 64
_END, _SCAN = 0xD9, 0xDA
_JFIF, _ADOBE = 0xE0, 0xEE  # they name the colour space
_METADATA = (*range(0xE0, 0xF0), 0xFE)  # applications' segments and comments
_PROGRESSIVE = 0xC2
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7)
_REFUSED = {
    **dict.fromkeys((0xC3, 0xCB), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"),
    0xF7: "JPEG-LS",
}
_ARITHMETIC = (0xC9, 0xCA)
# All markers that have a length, and the end; no restarts, fillers, stuffed bytes or start.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")


class Segment(NamedTuple):
    """A marker, and where its content, which follows the length, begins and ends."""

    marker: int
    start: int
    end: int


@dataclass
class JpegStructure:
    """The frame and the scans of a JPEG.

    Attributes:
        begun: whether there is a scan at all, after a frame.
        in_scans: whether its pixels come in several scans, so that a decoder holds all
            coefficients until the last.
        complete: whether the scans bring each coefficient of each component to its last bit. No
            decoder notices that a scan is absent.
        sampling: of each component, columns by rows: ``2x2, 1x1, 1x1`` is 4:2:0.
    """

    begun: bool = False
    in_scans: bool = False
    complete: bool = False
    sampling: str = ""
    _bits_left: dict[int, list[int]] = field(default_factory=dict)
    """By component and coefficient: how many low bits are missing; 255 if no bit has come."""

    def add_frame(self, components: bytes) -> None:
        """Note the components of a frame, three bytes each."""
        self._bits_left = {each: [255] * _COEFFICIENTS for each in components[::3]}
        self.sampling = ", ".join(f"{both >> 4}x{both & 15}" for both in components[1::3])

    def add_scan(self, header: bytes, *, progressive: bool) -> None:
        """Note which bits a scan brings; ``header`` is the content of its segment."""
        count = header[0] if header else 0
        components = header[1 : 1 + 2 * count : 2]
        first, last, bits = 0, _COEFFICIENTS - 1, 0
        if progressive:
            first, last, bits = (*header[1 + 2 * count :], 0, 0, 0)[:3]
        for component in components:
            left = self._bits_left.get(component)
            if left is not None:
                last = min(last, _COEFFICIENTS - 1)
                left[first : last + 1] = [bits & 0xF] * len(left[first : last + 1])
        self.begun = bool(self._bits_left)
        self.complete = self.begun and not any(any(left) for left in self._bits_left.values())


def read_structure(content: bytes) -> JpegStructure:
    """Read a JPEG's markers up to the first scan, or to its end if more scans are needed.

    Raises:
        ImageError: it is of a kind that is not read, or has too many scans. Each scan of a
            progressive JPEG may visit every pixel and needs only a few bytes, so a file of 10 kB
            can keep any decoder busy for minutes. Encoders write about ten; libtiff, too, stops
            at a hundred.
    """
    structure, frame, scans = JpegStructure(), 0, 0
    for number, (marker, start, end) in enumerate(segments(content)):
        if number > _MOST_SEGMENTS:
            raise ImageError(f"the JPEG has more than {_MOST_SEGMENTS} segments.")
        if marker in _FRAMES:
            frame = marker
            _check_frame(marker, content[start:end])
            structure.add_frame(content[start + 6 : end])
        elif marker == _SCAN:
            scans += 1
            structure.add_scan(content[start:end], progressive=frame == _PROGRESSIVE)
            structure.in_scans |= frame == _PROGRESSIVE or not structure.complete
            if not structure.in_scans:
                break
        if scans > _MOST_SCANS:
            raise ImageError(f"the JPEG has more than {_MOST_SCANS} scans, which no camera writes.")
    return structure


def segments(content: bytes) -> Iterator[Segment]:
    """Yield the segments between a JPEG's start and its end; scans' data lies between them."""
    position = 2
    while (found := _MARKER.search(content, position)) and found[1][0] != _END:
        start = found.end() + 2
        position = found.end() + int.from_bytes(content[found.end() : start], "big")
        yield Segment(found[1][0], start, max(start, position))


def header_segments(content: bytes) -> Iterator[Segment]:
    """Yield the segments before the first scan, where metadata stand."""
    before = takewhile(lambda segment: segment.marker != _SCAN, segments(content))
    return islice(before, _MOST_SEGMENTS)


def _check_frame(marker: int, frame: bytes) -> None:
    """Refuse kinds that are not read, or of which no decoder here tells whether they are whole."""
    kind = _REFUSED.get(marker)
    if kind:
        raise ImageError(f"{kind} is not read; {CONVERT}.")
    if marker in _ARITHMETIC:
        raise ImageError(
            "an arithmetic-coded JPEG is not read, because its decoders take missing data for "
            "zeros; convert it with jpegtran."
        )
    bits, height = frame[0] if frame else 8, int.from_bytes(frame[1:3], "big")
    if bits != 8:
        raise ImageError(f"a JPEG of {bits} bits is not read; {CONVERT}.")
    if height == 0:
        raise ImageError(f"a JPEG that says its height last (DNL) is not read; {CONVERT}.")


def without_metadata(content: bytes) -> bytes:
    """Return a JPEG with the same pixels and without metadata.

    Decoders warn about damaged metadata as they do about missing data. The result has an end
    marker only if the JPEG has one.
    """
    parts = [content[:2]]
    found = list(segments(content))
    for segment, following in zip(found, [*found[1:], None], strict=True):
        marker, start, end = segment
        if marker not in _METADATA or _says_colours(marker, content[start:end]):
            parts.append(content[start - 4 : end])
        if marker == _SCAN:
            parts.append(content[end : following.start - 4] if following else _data(content, end))
    end_marker = _MARKER.search(content, found[-1].end) if found else None
    return b"".join([*parts, end_marker[0] if end_marker else b""])


def _says_colours(marker: int, segment: bytes) -> bool:
    return (marker == _JFIF and segment.startswith(b"JFIF\0\1")) or (
        marker == _ADOBE and segment.startswith(b"Adobe")
    )


def _data(content: bytes, start: int) -> bytes:
    """Return the last scan's data, up to the end marker."""
    end = _MARKER.search(content, start)
    return content[start : end.start() if end else len(content)]
