"""Records as a notebook shows them: the picture with its crops, and what was found.

Whatever is wrong, something is shown: an error here would hide the record itself.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..claims.claims import ClaimOptions
from ..claims.reading import read_claims
from ..containers.container import ReadOptions
from ..containers.judged_images import JudgedImages, state_of
from ..images.decode import read_header
from ..images.encoded import DecodeOptions
from ..images.reading import read_file
from ..images.thumbnail import Box, Thumbnail, draft, thumbnail_of, upright_box, upright_size
from ..machine.printable import printable

if TYPE_CHECKING:
    from .records import Crop, Failure, Verdict

_Shown = TypeVar("_Shown")

_SIDE = 384  # pixels of the picture's longer side: enough to tell crops apart in some 20 KB
_THIN, _THICK = 1.0, 4.0  # pixels of a crop's edge for attention 0 and 1
_HALO = 2.0  # pixels that the dark line behind an edge is wider
_ORIENTATION = ClaimOptions(orientation=True)
_DARK, _BRIGHT = "#111", "#ffd23f"
_LEFT = "text-align:left"
_SIDE_BY_SIDE = "display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start"


def verdict_html(verdict: Verdict) -> str:
    """Return what a notebook shows of a verdict. Never raises."""
    return _something(_verdict, verdict)


def failure_html(failure: Failure) -> str:
    """Return what a notebook shows of an image that could not be judged. Never raises."""
    return _something(_failure, failure)


def _something(show: Callable[[_Shown], str], record: _Shown) -> str:
    """Return what a function makes of a record, or else the record as Python writes it."""
    try:
        return show(record)
    except Exception:
        return f"<pre>{_text(repr(record))}</pre>"


def _failure(failure: Failure) -> str:
    image = "The image" if failure.path is None else _path(failure.path)
    return f"<p>{image} could not be judged: {_text(failure.error.message)}</p>"


def _verdict(verdict: Verdict) -> str:
    try:
        picture = _picture(verdict)
    except Exception as error:  # a file may be anything
        picture = f"its file cannot be shown: {error}"
    if isinstance(picture, str):
        return f"{_table(verdict)}<p>There is no picture: {_text(picture)}</p>"
    return f'<div style="{_SIDE_BY_SIDE}">{_svg(verdict, picture)}{_table(verdict)}</div>'


def _picture(verdict: Verdict) -> Thumbnail | str:
    """Return an image's picture, or say why there is none."""
    if verdict.path is None:
        return "the image was given as bytes or pixels."
    source = JudgedImages([verdict.path], Path(), ReadOptions()).find(verdict.path)
    now = state_of(source)
    if source is None or now is None:
        start = "" if Path(verdict.path).is_absolute() else " from the working folder"
        return f"its file was not found{start}."
    if now != verdict.file:
        return "its file has changed since it was judged."
    content = read_file(source)
    image = read_header(content, DecodeOptions(allow_damaged=verdict.damaged))
    orientation = read_claims(content, _ORIENTATION).orientation
    return thumbnail_of(draft(content, image, _SIDE), orientation, _SIDE)


def _table(verdict: Verdict) -> str:
    doubts = "".join(_doubts(verdict))
    rows = (
        ("verdict", f"<b>{_text(verdict.verdict)}</b>{doubts}"),
        ("P(fake)", f"{verdict.score:.4f}"),
        ("pixels", _text(f"{verdict.width}x{verdict.height}")),
        ("image", "-" if verdict.path is None else _path(verdict.path)),
    )
    lines = "".join(
        f'<tr><th style="{_LEFT}">{name}</th><td style="{_LEFT}">{value}</td></tr>'
        for name, value in rows
    )
    return f"<table>{lines}</table>"


def _doubts(verdict: Verdict) -> Iterator[str]:
    if verdict.settled is False:
        yield " (not settled)"
    if verdict.damaged:
        yield " (a part of the image is missing)"


def _svg(verdict: Verdict, thumbnail: Thumbnail) -> str:
    """Return an upright picture with its crops, numbered as in the record."""
    stored = (verdict.width, verdict.height)
    width, height = upright_size(*stored, thumbnail.orientation)
    scale = min(1.0, _SIDE / max(width, height))
    size = f'width="{width * scale:.2f}" height="{height * scale:.2f}"'
    boxes = "".join(
        _box(number, crop, upright_box(_place(crop), *stored, thumbnail.orientation), scale)
        for number, crop in enumerate(verdict.crops, 1)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} '
        f'viewBox="0 0 {width * scale:.2f} {height * scale:.2f}" '
        f'style="max-width:100%;height:auto;flex:none">'
        f"<title>{_text(f'the image and its {len(verdict.crops)} crops')}</title>"
        f'<image {size} preserveAspectRatio="none" href="data:image/webp;base64,'
        f'{b64encode(thumbnail.content).decode()}"/>{boxes}</svg>'
    )


def _box(number: int, crop: Crop, box: Box, scale: float) -> str:
    """Return a crop's edge, the thicker the more attention it has, and its number."""
    edge = _THIN + (_THICK - _THIN) * (crop.attention or 0.0)
    left, top, width, height = (each * scale for each in box)
    place = f'x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" height="{height:.2f}"'
    return (
        f"<g><title>{'; '.join(_said(number, crop))}</title>"
        f'<rect {place} fill="{_DARK}" fill-opacity="0" stroke="{_DARK}" stroke-opacity="0.6" '
        f'stroke-width="{edge + _HALO:.2f}"/>'
        f'<rect {place} fill="none" stroke="{_BRIGHT}" stroke-width="{edge:.2f}"/>'
        f'<text x="{left + edge + 2:.2f}" y="{top + edge + 11:.2f}" fill="{_BRIGHT}" '
        f'stroke="{_DARK}" stroke-width="3" paint-order="stroke" '
        f'style="font:600 12px sans-serif">{number}</text></g>'
    )


def _said(number: int, crop: Crop) -> Iterator[str]:
    yield f"crop {number}"
    if crop.attention is not None:
        yield f"attention {crop.attention:.3f}"
    if crop.influence is not None:
        yield f"influence on P(fake) {crop.influence:+.3f}"


def _place(crop: Crop) -> Box:
    return Box(crop.left, crop.top, crop.width, crop.height)


def _path(path: str) -> str:
    return f'<bdi style="overflow-wrap:anywhere"><code>{_text(path)}</code></bdi>'


def _text(text: str) -> str:
    """Return text that shows as itself, whoever wrote it."""
    return escape(printable(text.encode("utf-8", "backslashreplace").decode()))
