"""Makes a report of records: counts all of them, chooses which are shown, and shows these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

from ..bundle.model_card import weaknesses
from ..machine.progress import Progress
from ..results.records import Verdict
from .model import Head, Report, Row
from .pictures import GONE, PictureMaker, Pictures, Wanted
from .rows import Setting, Thumbnails, row_of
from .selection import Chosen, Selection
from .summary import Summary, Threshold, counted

MOST_CROPS_SHOWN = 64  # for which previews are embedded

_FEW = 4  # images with the highest scores, and nearest the threshold, of which crops are embedded


def make_report(
    summary: Summary,
    threshold: Threshold,
    selection: Selection,
    setting: Setting,
    *,
    thumbnails: Thumbnails,
    progress: Progress,
) -> Report:
    """Make a report's page.

    Args:
        summary: of all records.
        threshold: P(fake) from which images were called fake.
        selection: of the same records.
        setting: what else is known.
        thumbnails: takes them, and has perhaps some of before.
        progress: is told how many pictures are made.
    """
    chosen = selection.chosen()
    wanted = _wanted(chosen, threshold, setting, thumbnails)
    made = PictureMaker(setting.root, setting.reading, setting.decode).make(
        [*wanted.values()], progress
    )
    pictures = dict(zip(wanted, made, strict=True))
    rows = tuple(
        row_of(each, pictures.get(row, Pictures()), setting, thumbnails)
        for row, each in enumerate(chosen)
    )
    missing = sum(row.note == GONE and row.thumbnail is None for row in rows)
    notes = [*setting.notes, *_notes(summary, threshold), *_missing(missing, setting.advice)]
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
            limits=weaknesses(drawn=drawn)[1:],  # the page begins with the first
        ),
        rows,
    )


def _wanted(
    chosen: Sequence[Chosen], threshold: Threshold, setting: Setting, thumbnails: Thumbnails
) -> dict[int, Wanted]:
    """Return by row the images whose files are looked at, and which pictures are missing."""
    few = _few(chosen, threshold)
    return {
        row: Wanted(
            record,
            record.path,
            thumbnail=candidate.thumbnail is None and thumbnails.find(record) is None,
            previews=row in few,
            kept=candidate.thumbnail,
        )
        for row, (candidate, _) in enumerate(chosen)
        if isinstance(record := candidate.record, Verdict) and record.path is not None
    }


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
    named = summary.called(summary.fake_class) + summary.called(summary.real_class)
    if named < summary.verdicts and summary.fake_class is not None:
        yield (
            f"{summary.verdicts - named} verdicts name other classes than {summary.fake_class} and "
            f"{summary.real_class}, and are in no count or bar."
        )
    if summary.damaged:
        yield f"Of {summary.damaged} images a part is missing and was filled in."


def _missing(missing: int, advice: str) -> Iterator[str]:
    if missing:
        images = "1 image is" if missing == 1 else f"{missing} images are"
        yield f"{images} shown without a picture, because the file was not found{advice}."
