"""Reports to draw: records of real photographs, with thumbnails as glass-report makes them."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

from conftest import EXAMPLES
from glass_edge.runtime.claims.claims import Credentials, Declared, Provenance
from glass_edge.runtime.finding.files import ImageFile
from glass_edge.runtime.report.model import Bar, Counted, Head, Report, Row
from glass_edge.runtime.report.rendering import render_page
from glass_edge.runtime.results.records import Crop, ErrorInfo, Failure, Verdict
from PIL import Image

PHOTOGRAPHS = tuple(sorted(EXAMPLES.rglob("*.jpg")))
THRESHOLD = 0.6
NO_CLAIMS = Provenance((), Credentials("none"))
DECLARED = Provenance(
    (Declared("XMP DigitalSourceType", "trainedAlgorithmicMedia"),), Credentials("none")
)
SIGNED = Provenance(
    (),
    Credentials(
        *("valid", "Example Press", "Example Camera 1.2", "digitalCapture"),
        actions=("c2pa.created",),
        codes=("signingCredential.untrusted",),
    ),
)


def verdict(path: str | None = "photo.jpg", score: float = 0.75, **changed: Any) -> Verdict:
    """A record like those of glass-run; ``changed`` are its fields."""
    fields: dict[str, Any] = {
        "verdict": "fake" if score >= THRESHOLD else "real",
        "probabilities": {"real": 1 - score, "fake": score},
        "logits": {"real": -0.5, "fake": 1e-7},
        "views": {"global": 1, "local": 2},
        "crops": (Crop(0, 0, 224, 224, 0.25, 0.031), Crop(60, 100, 224, 224, 0.75, -0.004)),
        "width": 640,
        "height": 427,
        "seed": 4294967295,
        "bundle": "small.glass 0123456789ab",
        "engine": "onnxruntime 1.25.0 cpu",
        "precision": "fp32",
        "file": ImageFile(48_211, "2026-11-02T09:12:44.120000Z"),
    }
    return Verdict(path=path, score=score, **fields | changed)


def failure(path: str, message: str = "the file ends before the image does.") -> Failure:
    return Failure(path=path, error=ErrorInfo("ImageError", message), file=None)


def row(record: Verdict | Failure, **changed: Any) -> Row:
    choice = "all" if isinstance(record, Verdict) else "error"
    return Row(record=record, choice=choice, **changed)


def head(rows: tuple[Row, ...], **changed: Any) -> Head:
    """A head that fits the rows."""
    records = [each.record for each in rows]
    scores = [record.score for record in records if isinstance(record, Verdict)]
    fake = sum(score >= THRESHOLD for score in scores)
    fields: dict[str, Any] = {
        "title": "photographs",
        "made": "2026-11-27T10:00:00Z",
        "bundles": (Counted("small.glass 0123456789ab", len(scores)),),
        "engines": (Counted("onnxruntime 1.25.0 cpu", len(scores)),),
        "precisions": (Counted("fp32", len(scores)),),
        "digest": "0123456789abcdef" * 4,
        "detector": "GLASS",
        "seed": "0",
        "fake_class": "fake",
        "real_class": "real",
        "threshold": THRESHOLD,
        "threshold_source": "from the bundle",
        "images": len(records),
        "fake": fake,
        "real": len(scores) - fake,
        "errors": len(records) - len(scores),
        "open_verdicts": None,
        "shown": len(records),
        "selection": None,
        "bars": bars(scores),
        "notes": (),
        "limits": ("A detector knows the generators that it was trained on.",),
    }
    return Head(**fields | changed)


def bars(scores: list[float], count: int = 20) -> tuple[Bar, ...]:
    made = []
    for index in range(count):
        low, high = index / count, (index + 1) / count
        within = [score for score in scores if low <= score < high or score == high == 1]
        fake = sum(score >= THRESHOLD for score in within)
        made.append(Bar(low, high, fake, len(within) - fake))
    return tuple(made)


def write_page(folder: Path, *rows: Row, **changed: Any) -> str:
    """Write a report into a folder and return its URL; ``changed`` are fields of the head."""
    path = folder / "report.html"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(render_page(Report(head(rows, **changed), rows)))
    return path.as_uri()


@cache
def thumbnail(path: Path) -> bytes:
    """A photograph as WebP of at most 192 pixels."""
    image = Image.open(path).convert("RGB")
    image.thumbnail((192, 192))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=55)
    return stream.getvalue()


def embedded(picture: bytes) -> str:
    """A WebP picture as a URL."""
    return f"data:image/webp;base64,{base64.b64encode(picture).decode()}"
