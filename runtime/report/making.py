"""Makes a report of records: counts all of them, chooses which are shown, and shows these."""

from __future__ import annotations

import os
import shlex
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from ..bundle.bundle import Bundle
from ..bundle.model_card import weaknesses
from ..engines.registry import engine_names
from ..images.encoded import DecodeOptions
from ..images.thumbnail import Thumbnail
from ..judging.options import AUTO_CROPS
from ..machine.progress import Progress
from ..results.records import Record, Verdict
from .model import Head, Report, Row
from .pictures import GONE, PictureMaker, Pictures, Wanted
from .selection import Chosen, Selection
from .summary import Summary, Threshold, counted

MOST_CROPS_SHOWN = 64  # for which previews are embedded

_FEW = 6  # images with the highest scores, and nearest the threshold, of which crops are embedded


@dataclass(frozen=True)
class Setting:
    """What is known of the run beside its records.

    Attributes:
        title: what was judged.
        page: where the report will be.
        root: the folder that relative paths in records begin at.
        bundle: that the images were judged with, if it is at hand.
        seed: the run's seed in words, if it is known.
        notes: what the reader must know of the records.
        decode: how images were decoded.
    """

    title: str
    page: Path
    root: Path
    bundle: Bundle | None = None
    seed: str | None = None
    notes: tuple[str, ...] = ()
    decode: DecodeOptions = DecodeOptions()


PlaceThumbnail = Callable[[int, Thumbnail], str]
"""Puts the thumbnail of a row where the page finds it, and returns its URL."""


def embedded(webp: bytes) -> str:
    """Return the URL of a WebP picture that is in the URL."""
    return f"data:image/webp;base64,{b64encode(webp).decode()}"


def make_report(
    summary: Summary,
    threshold: Threshold,
    selection: Selection,
    setting: Setting,
    *,
    place: PlaceThumbnail,
    progress: Progress,
) -> Report:
    """Make a report's page.

    Args:
        summary: of all records.
        threshold: P(fake) from which images were called fake.
        selection: of the same records.
        setting: what else is known.
        place: takes thumbnails.
        progress: is told how many pictures are made.
    """
    chosen = selection.chosen()
    pictures = dict(_pictures_of(chosen, threshold, setting, progress))
    rows = tuple(
        _row(number, each, pictures.get(number, Pictures()), setting, place)
        for number, each in enumerate(chosen)
    )
    missing = sum(found.problem == GONE for found in pictures.values())
    notes = [*setting.notes, *_notes(summary, threshold), *_missing(missing, len(pictures))]
    drawn = summary.drawn > 0
    return Report(
        Head(
            title=setting.title,
            made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            bundles=counted(summary.bundles),
            engines=counted(summary.engines),
            precisions=counted(summary.precisions),
            digest=setting.bundle.digest if setting.bundle else None,
            detector=setting.bundle.manifest.detector.title if setting.bundle else None,
            seed=setting.seed,
            fake_class=summary.fake_class,
            real_class=summary.real_class,
            threshold=threshold.value,
            threshold_source=threshold.source,
            images=summary.images,
            fake=summary.called(summary.fake_class),
            real=summary.called(summary.real_class),
            errors=summary.errors,
            open_verdicts=summary.open if summary.chosen_number else None,
            shown=len(rows),
            selection=None if selection.complete else _selection(rows),
            bars=summary.bars(),
            notes=tuple(notes),
            limits=weaknesses(drawn=drawn),
        ),
        rows,
    )


def _pictures_of(
    chosen: Sequence[Chosen], threshold: Threshold, setting: Setting, progress: Progress
) -> Iterator[tuple[int, Pictures]]:
    """Yield pictures of rows that have none yet, or of which each crop is shown, by row."""
    few = _few(chosen, threshold)
    wanted = {
        row: Wanted(record, row in few, setting.root / record.path)
        for row, (candidate, _) in enumerate(chosen)
        if isinstance(record := candidate.record, Verdict)
        and record.path is not None
        and (candidate.thumbnail is None or row in few)
    }
    made = PictureMaker(setting.decode).make([*wanted.values()], progress)
    yield from zip(wanted, made, strict=True)


def _few(chosen: Sequence[Chosen], threshold: Threshold) -> set[int]:
    """Return the rows of which each crop is embedded in native pixels."""
    scores = {
        row: record.score
        for row, (candidate, _) in enumerate(chosen)
        if isinstance(record := candidate.record, Verdict)
        and 0 < len(record.crops) <= MOST_CROPS_SHOWN
    }
    few = sorted(scores, key=lambda row: -scores[row])[:_FEW]
    if (border := threshold.value) is not None:
        few += sorted(scores, key=lambda row: abs(scores[row] - border))[:_FEW]
    return set(few)


def _row(
    number: int, chosen: Chosen, pictures: Pictures, setting: Setting, place: PlaceThumbnail
) -> Row:
    (_, record, kept), choice = chosen
    thumbnail = pictures.thumbnail or kept
    return Row(
        record=record,
        choice=choice,
        thumbnail=thumbnail and place(number, thumbnail),
        orientation=thumbnail.orientation if thumbnail else 1,
        original=_original(record, pictures, setting),
        previews=tuple(map(embedded, pictures.previews)),
        command=_command(record, setting) if isinstance(record, Verdict) else None,
        note=pictures.problem,
    )


def _original(record: Record, pictures: Pictures, setting: Setting) -> str | None:
    """Return the URL of an image's file, relative to the page."""
    if record.path is None or pictures.problem is not None or not isinstance(record, Verdict):
        return None
    try:
        relative = os.path.relpath(setting.root / record.path, setting.page.parent)
    except ValueError:  # on another drive
        return (setting.root / record.path).resolve().as_uri()
    return quote(Path(relative).as_posix())


def _command(verdict: Verdict, setting: Setting) -> str | None:
    """Return a command line that repeats a verdict."""
    if verdict.path is None:
        return None
    path = f"./{verdict.path}" if verdict.path.startswith("-") else verdict.path
    bundle = setting.bundle.path if setting.bundle else verdict.bundle.rpartition("@")[0]
    words = ["glass-run", path, "--bundle", str(bundle)]
    engine = verdict.engine.partition(" ")[0]
    if engine in engine_names():
        words += ["--engine", engine]
    if verdict.seed is not None:
        crops = AUTO_CROPS if verdict.settled is not None else len(verdict.crops)
        words += ["--crops", str(crops), "--fixed-seed", str(verdict.seed)]
    if verdict.damaged:
        words.append("--allow-damaged")
    return shlex.join([*words, "-o", "-"])


def _selection(rows: Sequence[Row]) -> str:
    counts = {
        name: sum(row.choice == name for row in rows)
        for name in ("highest", "threshold", "sample", "error")
    }
    return (
        f"Shown are the {counts['highest']} images with the highest scores, the "
        f"{counts['threshold']} nearest the threshold, {counts['sample']} others at random, and "
        f"{counts['error']} that could not be judged."
    )


def _notes(summary: Summary, threshold: Threshold) -> Iterator[str]:
    for what, names in (
        ("bundles", summary.bundles),
        ("engines", summary.engines),
        ("precisions", summary.precisions),
    ):
        if len(names) > 1:
            said = ", ".join(f"{name} ({count})" for name, count in names.most_common())
            yield f"The records were made with {len(names)} {what}, whose scores differ: {said}."
    if threshold.value is not None and summary.contradicts(threshold.value):
        yield f"Some of the verdicts were made with another threshold than {threshold.value:g}."
    if summary.damaged:
        yield f"Of {summary.damaged} images a part is missing and was filled in."


def _missing(missing: int, looked_for: int) -> Iterator[str]:
    if missing:
        yield (
            f"{missing} of {looked_for} image files were not found, so that they are not shown: "
            "run glass-report where glass-run was run, or name that folder with --root."
        )
