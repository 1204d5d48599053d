"""Statements that nobody signed: IPTC's source type, and what generators write into their files.

Whoever has a file can write any of them, or remove them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from ..images.tiff_directory import Directory, Tag, directory_at, first_directory
from .claims import Declared
from .metadata import Metadata
from .texts import shortened

MOST_STATEMENTS = 16
_SOURCE_TYPE = re.compile(
    rb"""DigitalSourceType(?:\s*=\s*["']|\s{1,9}rdf:resource\s*=\s*["']|[^<>]{0,99}>)\s*"""
    rb"https?://cv\.iptc\.org/newscodes/digitalsourcetype/([\w-]+)"
)
"""In XMP, as an attribute, a resource or an element; no parser of XML meets a stranger's file."""
_GENERATORS = (
    "parameters",  # A1111, Forge, SD.Next
    "prompt",  # ComfyUI
    "workflow",
    "sd-metadata",  # InvokeAI
    "invokeai_metadata",
    "invokeai_graph",
    "invokeai_workflow",
    "Dream",
    "Software",  # NovelAI, and any other program
    "Source",
)
"""Keywords of PNG texts that are reported whatever they say."""
_PARAMETERS = re.compile(rb"\bSteps: ?\d|\"(?:steps|sampler|negative_prompt|class_type)\" ?:")
"""How A1111, and generators that write JSON, list what made a picture."""
_COMFY = re.compile(rb"(?:prompt|workflow):\s*\{")
_CODED = 8  # bytes that name a comment's character set
_LONGEST_COMMENT = 1 << 16  # bytes that are searched


def statements_of(metadata: Metadata) -> tuple[Declared, ...]:
    """Return what a file states unsigned, at most :data:`MOST_STATEMENTS`.

    Raises:
        ImageError: its EXIF is absurdly long.
    """
    return tuple(islice(_statements(metadata), MOST_STATEMENTS))


def _statements(metadata: Metadata) -> Iterator[Declared]:
    found = dict.fromkeys(match[1] for match in _SOURCE_TYPE.finditer(metadata.xmp))
    for value in found:
        yield Declared("xmp:DigitalSourceType", shortened(value))
    for keyword, text in metadata.texts:
        if keyword in _GENERATORS or (keyword == "Comment" and _PARAMETERS.search(text)):
            yield Declared(f"png:{keyword}", shortened(text))
    main = first_directory(metadata.exif)
    if main:
        yield from _of_exif(metadata.exif, main)


def _of_exif(exif: bytes, main: Directory) -> Iterator[Declared]:
    if software := shortened(main.data(Tag.SOFTWARE)):
        yield Declared("exif:Software", software)
    for name, tag in (("Make", Tag.MAKE), ("Model", Tag.MODEL)):  # where ComfyUI has no text
        if _COMFY.match(main.data(tag)):
            yield Declared(f"exif:{name}", shortened(main.data(tag)))
    start = main.number(Tag.EXIF)
    detail = directory_at(exif, start) if start > 0 else None
    comment = _comment(detail.data(Tag.USER_COMMENT)) if detail else b""
    if _PARAMETERS.search(comment):
        yield Declared("exif:UserComment", shortened(comment))


def _comment(data: bytes) -> bytes:
    """Return a comment in UTF-8, after the name of its character set."""
    name, text = data[:_CODED], data[_CODED:_LONGEST_COMMENT]
    if name != b"UNICODE\0":
        return text
    # Its byte order should be the directory's, and often is not.
    order = "le" if text[1::2].count(0) >= text[::2].count(0) else "be"
    return text.decode(f"utf-16-{order}", "replace").encode("utf-8", "replace")
