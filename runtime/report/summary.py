"""What all records of a report say together."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from ..results.records import Failure, Record, Verdict
from .model import Bar, Counted

_BARS = 50
_EDGES = tuple(n / _BARS for n in range(_BARS))  # at which bars begin
USUAL_THRESHOLD = 0.5


class Threshold(NamedTuple):
    """P(fake) from which an image is called fake, and where that is known from, in words."""

    value: float | None
    source: str


@dataclass
class Summary:
    """Counts records as they come.

    Attributes:
        errors: images that have no verdict.
        open: verdicts that are not settled.
        chosen_number: verdicts whose number of crops was chosen image by image.
        damaged: verdicts on images of which a part is missing.
        drawn: verdicts whose crops were drawn at random.
        bundles, engines, precisions: how many verdicts name each.
        fake_class, real_class: the classes' names, as soon as they are known.
    """

    errors: int = 0
    open: int = 0
    chosen_number: int = 0
    damaged: int = 0
    drawn: int = 0
    bundles: Counter[str] = field(default_factory=Counter)
    engines: Counter[str] = field(default_factory=Counter)
    precisions: Counter[str] = field(default_factory=Counter)
    fake_class: str | None = None
    real_class: str | None = None
    _verdicts: Counter[str] = field(default_factory=Counter)
    _bars: dict[str, list[int]] = field(default_factory=dict)
    _least: dict[str, float] = field(default_factory=dict)
    _greatest: dict[str, float] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Count a record."""
        if isinstance(record, Failure):
            self.errors += 1
            return
        self.bundles[record.bundle] += 1
        self.engines[record.engine] += 1
        self.precisions[record.precision] += 1
        self.open += record.settled is False
        self.chosen_number += record.settled is not None
        self.damaged += record.damaged
        self.drawn += record.seed is not None
        self._add_score(record.verdict, record.score)
        if self.fake_class is None:
            self._find_classes(record)

    @property
    def images(self) -> int:
        """How many records there are."""
        return self.verdicts + self.errors

    @property
    def verdicts(self) -> int:
        """How many images have a verdict."""
        return self._verdicts.total()

    def called(self, name: str | None) -> int:
        """How many images are of a class."""
        return 0 if name is None else self._verdicts[name]

    def bars(self) -> tuple[Bar, ...]:
        """Return the histogram of the scores."""
        none = [0] * _BARS
        fake = self._bars.get(self.fake_class or "", none)
        real = self._bars.get(self.real_class or "", none)
        edges = (*_EDGES, 1.0)
        return tuple(Bar(edges[n], edges[n + 1], fake[n], real[n]) for n in range(_BARS))

    def threshold(self, given: float | None, source: str) -> Threshold:
        """Return the threshold that was given, or else the one that the verdicts show."""
        if given is not None:
            return Threshold(given, source)
        above, up_to = self._between()
        if above >= up_to:
            return Threshold(None, "the records were made with several")
        if above < USUAL_THRESHOLD <= up_to:
            return Threshold(USUAL_THRESHOLD, "not recorded; all verdicts agree with it")
        middle = round((above + up_to) / 2, 6)
        return Threshold(middle, f"not recorded; above {above:.4g}, at most {up_to:.4g}")

    def contradicts(self, threshold: float) -> bool:
        """Whether a verdict was made with another threshold."""
        above, up_to = self._between()
        return not above < threshold <= up_to

    def _between(self) -> tuple[float, float]:
        """Return the highest score called real and the lowest one called fake."""
        return (
            self._greatest.get(self.real_class or "", -1.0),
            self._least.get(self.fake_class or "", 1.0),
        )

    def _add_score(self, verdict: str, score: float) -> None:
        self._verdicts[verdict] += 1
        bars = self._bars.setdefault(verdict, [0] * _BARS)
        bars[bisect_right(_EDGES, score) - 1] += 1
        self._least[verdict] = min(score, self._least.get(verdict, score))
        self._greatest[verdict] = max(score, self._greatest.get(verdict, score))

    def _find_classes(self, record: Verdict) -> None:
        """Tell the fake class by its probability, which is the score."""
        names = [name for name, each in record.probabilities.items() if each == record.score]
        others = [name for name in record.probabilities if name not in names]
        if len(names) == len(others) == 1:
            self.fake_class, self.real_class = names[0], others[0]


def counted(counter: Counter[str]) -> tuple[Counted, ...]:
    """Return names and counts, the most frequent first."""
    return tuple(Counted(name, count) for name, count in counter.most_common())
