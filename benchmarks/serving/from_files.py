"""The same images from their files: ``glass-run``, the work without HTTP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ...runtime.bundle.bundle import Bundle
from ...runtime.machine.errors import EngineError, ImageError
from ...runtime.results.records import Verdict, decode_record
from ..reports.programs import RUN, seconds_of

_FEW = 16  # images by which the time for one is estimated
_RECORDS = "records.jsonl"


class FilesRun:
    """``glass-run`` on links to images, as many as keep it busy for some seconds.

    Attributes:
        engine: what executes the graphs, as records say it.
    """

    def __init__(
        self, images: Sequence[str], bundle: Bundle, engine: str, seconds: float, folder: Path
    ) -> None:
        """Choose the number of links; the runs for that warm the machine up.

        Args:
            images: files, named so that any working directory finds them.
            bundle: what judges.
            engine: what executes it.
            seconds: how long a run takes, roughly, without its start.
            folder: an empty one for the links and the records.

        Raises:
            EngineError: ``glass-run`` failed.
            ImageError: it could not judge an image.
        """
        self._images, self._folder = images, folder
        self._options = ["-b", str(bundle.path.resolve()), "--engine", engine]
        self._taken(len(images))
        records = [decode_record(line) for line in (folder / _RECORDS).read_bytes().splitlines()]
        for image, record in zip(images, records, strict=True):
            if not isinstance(record, Verdict):
                raise ImageError(f"{image}: {record.error.message} Leave it out of the benchmark.")
            self.engine = record.engine
        each = (self._taken(_FEW) - self._taken(1)) / (_FEW - 1)
        self._count = max(_FEW, math.ceil(seconds / each)) if each > 0 else _FEW

    def seconds_per_image(self) -> float:
        """Return what one more image takes: a run on one image is subtracted, for the start.

        Raises:
            EngineError: ``glass-run`` failed, or the images take less time than its start varies.
        """
        more = self._taken(self._count) - self._taken(1)
        if more <= 0:
            raise EngineError(
                f"glass-run takes no longer for {self._count} images than for one: measure for "
                "longer with --seconds."
            )
        return more / (self._count - 1)

    def _taken(self, count: int) -> float:
        links = self._folder / str(count)
        if not links.exists():
            links.mkdir()
            for number in range(count):
                image = Path(self._images[number % len(self._images)])
                # Zeros keep the order of folders that of the images.
                (links / f"{number:08}{image.suffix}").symlink_to(image)
        return seconds_of(
            RUN, [str(links), *self._options, "--force", "-o", _RECORDS], self._folder
        )
