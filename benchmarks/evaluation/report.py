"""What ``glass-eval`` writes down: one object, from which JSON, Markdown and a plot are made."""

from __future__ import annotations

import msgspec

from ...calibration.steadiness.reliability import BINS, Bin
from ...runtime.bundle.comparison import Comparison
from ...runtime.results.tables import markdown_table
from ...runtime.views.spec import ViewSpec
from ..measuring.report import BenchReport
from ..measuring.samples import counted
from .reliability import plot_reliability


class Metrics(msgspec.Struct, frozen=True):
    """How good judgements are.

    F1, precision and recall are means over the two classes, weighted by the number of
    judgements of each. Confidence is the probability of the class called; its means are
    ``None`` where no judgement is right, or none wrong. ``ece`` is over ``reliability``.
    """

    accuracy: float
    roc_auc: float
    f1: float
    precision: float
    recall: float
    ece: float
    confidence_when_right: float | None
    confidence_when_wrong: float | None
    reliability: tuple[Bin, ...]


class Speed(msgspec.Struct, frozen=True):
    """How fast the network alone is, views ready: ``images`` took ``seconds``.

    ``warm``: the network's first batch is left out; it is in only where there is no other.
    """

    images_per_second: float
    images: int
    seconds: float
    warm: bool


class Change(msgspec.Struct, frozen=True):
    """How judgements differ from the first bundle's: verdicts, and P(fake) absolutely."""

    flips: int
    flip_share: float
    mean_change: float
    largest_change: float


class BundleResult(msgspec.Struct, frozen=True):
    """One bundle. ``change`` is ``None`` for the first, with which others are compared.

    Of a bundle below FP32 its manifest says how many nodes were ``kept`` in a higher type, and
    what the export's ``gate`` found; both are ``None`` for FP32, and in reports older than they
    are.
    """

    name: str
    size_bytes: int
    bundle_precision: str
    engine_precision: str
    engine: str
    metrics: Metrics
    speed: Speed
    change: Change | None
    kept: int | None = None
    gate: Comparison | None = None


class Unreadable(msgspec.Struct, frozen=True):
    """An image that was not judged, and why."""

    path: str
    reason: str


class ScoredImage(msgspec.Struct, frozen=True, rename={"class_": "class"}):
    """One judgement: an image, the class of its folder, a seed, each bundle's P(fake)."""

    path: str
    class_: str
    seed: int
    scores: tuple[float, ...]


class EvaluationReport(BenchReport, frozen=True):
    """Everything that an evaluation found; ``images`` counts those judged, by class.

    ``timed_at_once`` is the most images that a network was timed on together; ``None`` in reports
    older than it is, where that is ``batch_size``.
    """

    classes: tuple[str, str]
    fake_class: str
    views: ViewSpec
    threshold: float
    seeds: int
    batch_size: int
    images: dict[str, int]
    unreadable: tuple[Unreadable, ...]
    bundles: tuple[BundleResult, ...]
    judgements: tuple[ScoredImage, ...]
    timed_at_once: int | None = None

    def to_png(self) -> bytes:
        """Return the reliability plot, a panel for each bundle; needs matplotlib."""
        return plot_reliability([(each.name, each.metrics.reliability) for each in self.bundles])

    def table(self) -> str:
        """Return a row for each measure and a column for each bundle."""
        columns = [_column(each) for each in self.bundles]
        measures = dict.fromkeys(measure for column in columns for measure in column)
        header = ["measure", *(each.name for each in self.bundles)]
        rows = ([measure, *(c.get(measure, "") for c in columns)] for measure in measures)
        return markdown_table(header, rows)

    def _looked_at(self) -> str:
        """Say what the bundles look at."""
        views, side = self.views, self.views.crop_size
        if not views.drawn:
            return str(views)
        return f"1 global view and {counted(views.num_crops, 'crop')} of {side}x{side}"

    def to_markdown(self) -> str:
        """Return the table, how it was measured, and the images left out."""
        at_once = self.timed_at_once or self.batch_size
        counts = ", ".join(f"{count} {name}" for name, count in self.images.items())
        parts = [
            f"{len(self.judgements)} judgements: {counts}, each with "
            f"{counted(self.seeds, 'seed')}, "
            f"{self._looked_at()}, the same for every bundle; called {self.fake_class} from "
            f"P(fake) {self.threshold:g}.",
            self.table(),
            "F1, precision and recall: means over both classes, weighted by their judgements. "
            "Confidence: the probability of the class called. Images/s: the network alone on "
            f"views ready to use, up to {counted(at_once, 'image')} at once, each "
            "network's first batch left out where there are others.",
        ]
        if self.unreadable:
            parts += [
                f"## {counted(len(self.unreadable), 'image')} not judged",
                "\n".join(f"- {each.path}: {each.reason}" for each in self.unreadable),
            ]
        return self.page("Evaluation", *parts)


def _column(result: BundleResult) -> dict[str, str]:
    """The cells of a bundle by measure."""
    metrics, speed = result.metrics, result.speed
    cells = {
        "accuracy": f"{metrics.accuracy:.4f}",
        "ROC AUC": f"{metrics.roc_auc:.4f}",
        "F1, weighted": f"{metrics.f1:.4f}",
        "precision, weighted": f"{metrics.precision:.4f}",
        "recall, weighted": f"{metrics.recall:.4f}",
        f"ECE, {BINS} bins": f"{metrics.ece:.4f}",
        "mean confidence when right": _share(metrics.confidence_when_right),
        "mean confidence when wrong": _share(metrics.confidence_when_wrong),
        "images/s": f"{speed.images_per_second:.1f}" + ("" if speed.warm else " (first batch)"),
        "size, MB": f"{result.size_bytes / 1e6:.1f}",
        "type in the bundle": result.bundle_precision,
        "type computed in": result.engine_precision,
        "engine": result.engine,
    }
    if (change := result.change) is not None:
        cells |= {
            "verdicts unlike the first's": f"{change.flips} ({change.flip_share:.2%})",
            "mean change of P(fake)": f"{change.mean_change:.4f}",
            "largest change of P(fake)": f"{change.largest_change:.4f}",
        }
    if result.kept is not None:
        cells["nodes kept higher"] = str(result.kept)
    if (gate := result.gate) is not None:
        cells |= {
            "gate: verdicts unlike FP32's": f"{gate.flips} of {gate.judgements}",
            "gate: mean change of P(fake)": f"{gate.mean_change:.4f}",
            "gate: largest change of P(fake)": f"{gate.largest_change:.4f}",
        }
        if gate.yardstick is not None:
            cells |= {
                "gate: error, in draw noise": f"{gate.yardstick.error:.2f}",
                "gate: shift, in draw noise": f"{gate.yardstick.shift:+.2f}",
            }
    return cells


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
