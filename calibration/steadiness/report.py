"""The report of ``glass-calibrate``: one object that makes JSON, Markdown and a picture."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ...runtime.bundle.scores import ScoreCalibration
from ...runtime.bundle.stopping import Stopping
from ...runtime.machine.environment import Environment
from ...runtime.results.tables import markdown_table
from .curve import Point
from .picture import Panel, draw

SCHEMA_VERSION = 1


class CalibrationReport(msgspec.Struct, frozen=True):
    """What images have shown of a bundle.

    ``bundle`` is the one that was calibrated, ``made`` the new one. ``labels`` counts the images of
    each class, if they have labels; ``unreadable`` says why images were left out. ``fixed`` are
    fixed numbers of crops, ``rules`` rules of every scale, ``chosen`` the one in the new bundle;
    ``unsettled`` counts the images that it left open. There is no rule, and none of these, for a
    detector that draws nothing.
    """

    schema: int
    command: str
    environment: Environment
    bundle: str
    made: str
    engine: str
    precision: str
    labels: dict[str, int]
    unreadable: dict[str, str]
    num_crops: int
    stopping: Stopping | None
    scores: ScoreCalibration | None
    fixed: dict[int, Point]
    rules: tuple[Point, ...]
    chosen: Point | None
    unsettled: int
    notes: tuple[str, ...]

    def lines(self) -> dict[str, str]:
        """Return what was found, as people read it."""
        rule, chosen = self.stopping, self.chosen
        lines = {}
        if rule is not None and chosen is not None:
            lines = {
                "images": f"{rule.images} different ones{self._labelled()}",
                "rule": f"{chosen.crops:.2f} crops on average, {rule.steps[0]} to "
                f"{rule.most_crops}; {self.unsettled} image{'s' * (self.unsettled != 1)} not "
                "settled",
                "risk": rule.evidence,
            }
        elif self.scores is not None:
            lines = {"images": f"{self.scores.images} different ones{self._labelled()}"}
        usual = self.fixed.get(self.num_crops)
        if usual is not None:
            lines["compare"] = (
                f"with {self.num_crops} crops for every image {usual.unlike:.2%} of verdicts differ"
            )
        if self.scores is not None:
            lines["scores"] = self.scores.evidence
        return lines

    def _labelled(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.labels.items())
        return f" ({counts})" if counts else ""

    def table(self) -> str:
        """Return a row for each number of crops, and one for the rule; nothing without one."""
        if self.chosen is None:
            return ""
        rows = [
            (f"{number} for every image", f"{point.crops:.2f}", f"{point.unlike:.2%}")
            for number, point in self.fixed.items()
        ]
        rows.append(("the rule", f"{self.chosen.crops:.2f}", f"{self.chosen.unlike:.2%}"))
        return markdown_table(("crops of an image", "on average", "verdicts unlike"), rows)

    def to_json(self) -> bytes:
        """Return the report with all points."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    def to_markdown(self) -> str:
        """Return the report as a page."""
        lines = "\n".join(f"- **{what}**: {text}" for what, text in self.lines().items())
        parts = (*self._head(), lines, self.table(), *self._notes())
        return "\n\n".join(part for part in parts if part) + "\n"

    def to_png(self) -> bytes:
        """Draw crops against verdicts unlike the settled ones, of a rule; needs matplotlib."""
        rule = self.stopping
        if rule is None or self.chosen is None:
            raise ValueError("there is no rule to draw")
        title = f"{self.bundle}: {rule.images} images, settled by {rule.settled_crops} crops"
        return draw([Panel(title, self.fixed, self.rules, self.chosen, rule.risk)])

    def _head(self) -> tuple[str, ...]:
        what = f"{self.bundle} on {self.engine}, computing in {self.precision}; made: {self.made}"
        return ("# Calibration", f"`{self.command}`", self.environment.to_markdown(), what)

    def _notes(self) -> Iterator[str]:
        yield from (f"Note: {note}" for note in self.notes)
        if self.unreadable:
            yield "\n".join(f"- {path}: {reason}" for path, reason in self.unreadable.items())
