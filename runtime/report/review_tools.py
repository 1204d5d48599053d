"""Records for tools in which people review images: Label Studio and FiftyOne.

Each format is a function that yields the text of one JSON document, record by record, so that a
million of them need no memory. Both tools show images in a browser, which turns them upright, while
records count stored pixels: crops are therefore turned as the image's file says.

Formats: https://labelstud.io/guide/predictions and
https://docs.voxel51.com/user_guide/dataset_creation/datasets.html#fiftyonedataset-import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote

import msgspec

from ..claims.claims import ClaimOptions
from ..claims.reading import read_claims
from ..finding.files import image_file
from ..finding.signatures import SIGNATURE_BYTES, file_format
from ..images.reading import read_file
from ..images.thumbnail import Box, upright_box, upright_size
from ..machine.errors import ImageError
from ..results.records import Crop, Failure, Record, Verdict

OrientationOf: TypeAlias = Callable[[Verdict], int]
"""Says by which EXIF orientation, 1 to 8, an image's stored pixels become upright."""

_ORIENTATION = ClaimOptions(orientation=True)
_URL_STARTS = ("http://", "https://", "/")
_NEVER_TURNED = ("WebP",)  # Chromium turns JPEG, PNG and AVIF as they say, and WebP not
_PERCENT = 100.0
_FIFTYONE_FIELDS = {
    "verdict": "fiftyone.core.fields.EmbeddedDocumentField(fiftyone.core.labels.Classification)",
    "score": "fiftyone.core.fields.FloatField",
    "crops": "fiftyone.core.fields.EmbeddedDocumentField(fiftyone.core.labels.Detections)",
    "crops.detections.attention": "fiftyone.core.fields.FloatField",
    "crops.detections.influence": "fiftyone.core.fields.FloatField",
    "bundle": "fiftyone.core.fields.StringField",
}


class Format(Protocol):
    """Yields one JSON document, in pieces, of verdicts that have a path."""

    def __call__(
        self,
        verdicts: Iterable[Verdict],
        prefix: str,
        orientation_of: OrientationOf | None = None,
    ) -> Iterator[str]:
        """Write verdicts down.

        Args:
            verdicts: verdicts without a path are left out.
            prefix: put before each path.
            orientation_of: which way is up; by default each image's file is read, by its path
                from the working directory.
        """


@dataclass
class Reviewable:
    """Passes on the records that a tool can show, and counts those that it cannot.

    Attributes:
        errors: images that have no verdict.
        without_path: images that were given as bytes or pixels.
    """

    errors: int = 0
    without_path: int = 0

    def among(self, records: Iterable[Record]) -> Iterator[Verdict]:
        """Yield the verdicts on images that have a path."""
        for record in records:
            if isinstance(record, Failure):
                self.errors += 1
            elif record.path is None:
                self.without_path += 1
            else:
                yield record

    def sentences(self) -> list[str]:
        """Say what was left out."""
        groups = ((self.errors, "that could not be judged"), (self.without_path, "without a path"))
        return [f"Left out: {_images(count)} {which}." for count, which in groups if count]


@dataclass
class FileOrientations:
    """Reads from images' files which way a browser turns them.

    Attributes:
        root: the folder that relative paths begin at.
        unknown: how many files were gone, changed or unreadable; their images count as upright.
    """

    root: Path = Path()
    unknown: int = 0

    def __call__(self, verdict: Verdict) -> int:
        """Return the orientation of a verdict's image, 1 to 8."""
        path = self.root / (verdict.path or "")
        try:
            if verdict.file is not None and image_file(path) == verdict.file:
                return _orientation(read_file(path))
        except (ImageError, MemoryError):
            pass
        self.unknown += 1
        return 1

    def sentences(self) -> list[str]:
        """Say what could not be found out."""
        if not self.unknown:
            return []
        return [
            f"Which way is up is not known of {_images(self.unknown)}: the files are gone, have "
            "changed, or lie in an archive or a bucket. Crops lie wrong on those that are stored "
            "turned."
        ]


def label_studio(
    verdicts: Iterable[Verdict], prefix: str, orientation_of: OrientationOf | None = None
) -> Iterator[str]:
    """Yield tasks for Label Studio, each with the verdict and its crops as a prediction.

    The prefix makes URLs of paths: ``/data/local-files/?d=``, ``https://host/folder/``. After such
    a prefix paths are quoted; after any other, such as ``s3://bucket/``, they stay as they are.
    """
    images = enumerate(_upright(verdicts, orientation_of), 1)
    yield "["
    yield from _items(_task(number, image, prefix) for number, image in images)
    yield "]\n"


def fiftyone(
    verdicts: Iterable[Verdict], prefix: str, orientation_of: OrientationOf | None = None
) -> Iterator[str]:
    """Yield a dataset for ``fiftyone.Dataset.from_json``: a classification and detections."""
    head = {"name": "glass-edge", "media_type": "image", "sample_fields": _FIFTYONE_FIELDS}
    yield _json(head)[:-1] + ',"samples":['
    yield from _items(_sample(image, prefix) for image in _upright(verdicts, orientation_of))
    yield "]}\n"


FORMATS: Mapping[str, Format] = {"label-studio": label_studio, "fiftyone": fiftyone}
"""What writes records for each tool, by the tool's name."""


class _Upright:
    """An image, its verdict and its crops as a viewer shows them."""

    def __init__(self, path: str, verdict: Verdict, orientation: int) -> None:
        stored = (verdict.width, verdict.height)
        self.path, self.verdict = path, verdict
        self.width, self.height = upright_size(*stored, orientation)
        self.crops = [
            (upright_box(_box(crop), *stored, orientation), crop) for crop in verdict.crops
        ]

    def shares(self, box: Box, whole: float) -> tuple[float, float, float, float]:
        """Return left, top, width and height of a box, none above ``whole``, the image's sides."""
        across, down = self.width, self.height  # divided by last, so that the whole is the whole
        return (
            box.left * whole / across,
            box.top * whole / down,
            box.width * whole / across,
            box.height * whole / down,
        )


def _upright(
    verdicts: Iterable[Verdict], orientation_of: OrientationOf | None
) -> Iterator[_Upright]:
    orientation_of = orientation_of or FileOrientations()
    for verdict in verdicts:
        if verdict.path is not None:
            yield _Upright(verdict.path, verdict, orientation_of(verdict))


def _task(number: int, image: _Upright, prefix: str) -> dict[str, Any]:
    verdict = image.verdict
    choice = {
        "id": f"{number}-verdict",
        "type": "choices",
        "from_name": "verdict",
        "to_name": "image",
        "value": {"choices": [verdict.verdict]},
    }
    crops = [
        _rectangle(f"{number}-crop-{place}", box, crop, image)
        for place, (box, crop) in enumerate(image.crops, 1)
    ]
    prediction = {
        "model_version": verdict.bundle,
        "score": verdict.score,
        "result": [choice, *crops],
    }
    data = {
        "image": _address(prefix, image.path),
        "score": verdict.score,
        "verdict": verdict.verdict,
        "path": image.path,
    }
    return {"data": data, "predictions": [prediction]}


def _rectangle(name: str, box: Box, crop: Crop, image: _Upright) -> dict[str, Any]:
    left, top, width, height = image.shares(box, _PERCENT)
    found = {
        "id": name,
        "type": "rectanglelabels",
        "from_name": "crops",
        "to_name": "image",
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
        "value": {
            "x": left,
            "y": top,
            "width": width,
            "height": height,
            "rotation": 0,
            "rectanglelabels": ["crop"],
        },
    }
    return found | ({} if crop.attention is None else {"score": crop.attention})


def _sample(image: _Upright, prefix: str) -> dict[str, Any]:
    verdict = image.verdict
    size = {} if verdict.file is None else {"size_bytes": verdict.file.bytes}
    pixels = {"width": image.width, "height": image.height}
    return {
        "filepath": prefix + image.path,
        "metadata": {"_cls": "ImageMetadata", **size, **pixels},
        "verdict": {
            "_cls": "Classification",
            "label": verdict.verdict,
            "confidence": verdict.probabilities.get(verdict.verdict),
        },
        "score": verdict.score,
        "crops": {
            "_cls": "Detections",
            "detections": [_detection(box, crop, image) for box, crop in image.crops],
        },
        "bundle": verdict.bundle,
    }


def _detection(box: Box, crop: Crop, image: _Upright) -> dict[str, Any]:
    known = {"attention": crop.attention, "influence": crop.influence}
    return {
        "_cls": "Detection",
        "label": "crop",
        "bounding_box": image.shares(box, 1.0),
        **{name: value for name, value in known.items() if value is not None},
    }


def _box(crop: Crop) -> Box:
    return Box(crop.left, crop.top, crop.width, crop.height)


def _address(prefix: str, path: str) -> str:
    """Return where Label Studio finds an image."""
    if prefix.startswith(_URL_STARTS):
        return prefix + quote(PurePath(path).as_posix())
    return prefix + path


def _items(values: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the items of a JSON array, one a line."""
    before = "\n"
    for value in values:
        yield before + _json(value)
        before = ",\n"
    yield "\n"


def _orientation(content: bytes) -> int:
    """Return by which orientation a browser shows a file."""
    found = file_format(content[:SIGNATURE_BYTES])
    if found and found.name in _NEVER_TURNED:
        return 1
    return read_claims(content, _ORIENTATION).orientation


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
