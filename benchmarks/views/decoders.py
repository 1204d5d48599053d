"""``glass-bench decoders``: each format with each decoder that could be taken for it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping

import cv2
import msgspec
import numpy as np
from PIL import Image

from ...runtime.commands.progress import on_console
from ...runtime.images.decode import decode, read_header
from ...runtime.images.pillow import teach_pillow_heif
from ...runtime.machine.environment import environment
from ...runtime.machine.progress import track
from ...runtime.results.tables import markdown_table
from ..measuring.generated import generated_images
from ..measuring.report import SCHEMA_VERSION, BenchReport
from ..measuring.samples import Samples
from .interlaced import interlaced_png
from .libraries import DECODERS, Pixels


class DecoderResult(msgspec.Struct, frozen=True):
    """One decoder on one file; ``largest_difference`` to Pillow's pixels in grey levels.

    A decoder that refuses the file has no time, one with another shape no difference.
    """

    decoder: str
    time: Samples | None
    largest_difference: int | None


class FormatResult(msgspec.Struct, frozen=True):
    """All decoders on one kind of file, and which the runtime takes."""

    name: str
    file_bytes: int
    taken: str
    decoders: tuple[DecoderResult, ...]


class DecodersReport(BenchReport, frozen=True):
    """Everything that a run of the benchmark measured."""

    megapixels: float
    repeats: int
    formats: tuple[FormatResult, ...]

    def table(self) -> str:
        """Return a row for each kind of file."""
        names = [result.decoder for result in self.formats[0].decoders]
        header = ["file", "taken", *(f"{name}, ms" for name in names), "largest differences"]
        rows = [[f.name, f.taken, *map(_time, f.decoders), _differences(f)] for f in self.formats]
        return markdown_table(header, rows)

    def to_markdown(self) -> str:
        """Return the table and how it was measured."""
        return self.page(
            "Decoders",
            f"One image of {self.megapixels:g} million pixels in each format; median of "
            f"{self.repeats} repeats in turns (quartiles). Differences are to Pillow's "
            'convert("RGB") in grey levels; a dash: the decoder refuses the file.',
            self.table(),
        )


def measure_decoders(*, megapixels: float, repeats: int, command: str) -> DecodersReport:
    """Time every decoder on every kind of file, in turns, with one thread."""
    cv2.setNumThreads(1)
    (source,) = generated_images([megapixels]).values()
    picture = Image.open(io.BytesIO(source)).convert("RGB")
    kinds = _files(picture)
    results = [
        _measure(name, make(), repeats)
        for name, make in track(kinds.items(), "measuring formats", len(kinds), on_console)
    ]
    return DecodersReport(
        SCHEMA_VERSION, command, environment(), megapixels, repeats, tuple(results)
    )


def _files(picture: Image.Image) -> Mapping[str, Callable[[], bytes]]:
    grey, clear = picture.convert("L"), picture.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(picture.size))
    deep = np.asarray(picture).astype(np.uint16) * 257

    def saved(image: Image.Image, kind: str, **options: object) -> Callable[[], bytes]:
        def make() -> bytes:
            buffer = io.BytesIO()
            image.save(buffer, kind, **options)
            return buffer.getvalue()

        return make

    return {
        "JPEG 4:2:0": saved(picture, "JPEG", quality=90),
        "JPEG 4:2:2": saved(picture, "JPEG", quality=90, subsampling=1),
        "JPEG 4:4:4": saved(picture, "JPEG", quality=90, subsampling=0),
        "JPEG progressive": saved(picture, "JPEG", quality=90, progressive=True),
        "JPEG grey": saved(grey, "JPEG", quality=90),
        "JPEG CMYK": saved(picture.convert("CMYK"), "JPEG", quality=90),
        "PNG": saved(picture, "PNG"),
        "PNG with alpha": saved(clear, "PNG"),
        "PNG interlaced": lambda: interlaced_png(picture),
        "PNG palette": saved(picture.convert("P"), "PNG"),
        "PNG 16-bit": cv2.imencode(".png", deep)[1].tobytes,
        # Dark, so that clipping at 255 leaves a picture.
        "PNG 16-bit grey": cv2.imencode(".png", deep[..., 0] // 128)[1].tobytes,
        "WebP lossy": saved(picture, "WEBP", quality=90),
        "WebP lossless": saved(picture, "WEBP", lossless=True, method=0),
        "WebP animated": saved(
            picture, "WEBP", save_all=True, append_images=[picture.rotate(180)], duration=100
        ),
        "AVIF": saved(picture, "AVIF", speed=10),
        **({"HEIC": saved(picture, "HEIF")} if teach_pillow_heif() else {}),
        "TIFF": saved(picture, "TIFF"),
        "BMP": saved(picture, "BMP"),
        "GIF": saved(picture, "GIF"),
    }


def _ours(content: bytes) -> Pixels:
    return decode(content)


def _measure(name: str, content: bytes, repeats: int) -> FormatResult:
    decoders = {**DECODERS, "glass-edge": _ours}
    found = {decoder: pixels(content) for decoder, pixels in decoders.items()}
    seconds: dict[str, list[float]] = {decoder: [] for decoder in decoders}
    for _ in range(repeats):
        for decoder, pixels in decoders.items():
            if found[decoder] is not None:
                started = time.perf_counter()
                pixels(content)
                seconds[decoder].append(time.perf_counter() - started)
    results = [
        DecoderResult(
            decoder,
            Samples(tuple(seconds[decoder])) if seconds[decoder] else None,
            _difference(found["Pillow"], found[decoder]),
        )
        for decoder in decoders
    ]
    return FormatResult(name, len(content), read_header(content).decoder, tuple(results))


def _difference(expected: Pixels | None, found: Pixels | None) -> int | None:
    if expected is None or found is None or expected.shape != found.shape:
        return None
    return int(np.abs(expected.astype(np.int16) - found).max())


def _time(result: DecoderResult) -> str:
    return "-" if result.time is None else result.time.milliseconds()


def _differences(result: FormatResult) -> str:
    others = [d for d in result.decoders[1:] if d.time is not None]
    named = (f"{d.decoder} {d.largest_difference}" for d in others)
    return ", ".join(named) or "-"
