"""Compares the records of two machines that judged the same images, and writes a report.

The folders are those that tools/judge.py wrote. Ends with 1 if anything differs:

    python tools/compare_records.py here there --command 'make aarch64' -o report.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec
from judge import RECORDS, SIDE, Side

from glass_edge import Failure, Record, Verdict

TOLERANCE = 1e-4
"""The largest difference allowed in a logit: what an export allows between ONNX and PyTorch."""


class _Status(msgspec.Struct):
    """What tells which kind of record a line is."""

    status: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What two machines made of the same images.

    ``differences`` holds a sentence for each; there are none if the check passed.
    ``largest_difference`` is in any logit of any image that both judged.
    """

    schema: int = 1
    command: str
    here: Side
    there: Side
    bundle: str
    engine: str
    images: int
    tolerance: float
    largest_difference: float
    passed: bool
    differences: tuple[str, ...]

    def to_markdown(self) -> str:
        """Return the report as a page."""
        outcome = "**Passed.**" if self.passed else "**Failed.**"
        what = "crop placements, seeds and verdicts are the same" if self.passed else "see below"
        lines = [
            f"# {self.here.environment.system} and {self.there.environment.system}",
            f"`{self.command}`",
            f"{outcome} {self.images} images; {what}. The largest difference in any logit is "
            f"{self.largest_difference:.1e}; {self.tolerance:.0e} is allowed.",
            "\n".join(f"- {sentence}" for sentence in self.differences),
            f"Both sides used bundle {self.bundle} on {self.engine}.",
            self._table(),
        ]
        return "\n\n".join(line for line in lines if line) + "\n"

    def _table(self) -> str:
        """Return what is known of both machines, side by side."""
        sides = (self.here, self.there)
        machines = [side.environment for side in sides]
        libraries = dict.fromkeys(name for machine in machines for name in machine.libraries)
        rows = [
            ("", *(machine.system for machine in machines)),
            ("---", "---", "---"),
            ("distribution", *(side.system for side in sides)),
            ("processor", *(machine.processor for machine in machines)),
            ("emulated by", *(side.emulator or "-" for side in sides)),
            ("CPUs", *(str(machine.cpus) for machine in machines)),
            ("seconds", *(f"{side.seconds:.1f}" for side in sides)),
            ("Python", *(machine.python for machine in machines)),
            *((name, *(m.libraries.get(name, "-") for m in machines)) for name in libraries),
        ]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def read_records(path: Path) -> list[Record]:
    """Return the records in a file.

    Raises:
        OSError: the file cannot be read.
        msgspec.DecodeError: it holds something else.
    """
    records: list[Record] = []
    for line in path.read_bytes().splitlines():
        if msgspec.json.decode(line, type=_Status).status == "ok":
            records.append(msgspec.json.decode(line, type=Verdict))
        else:
            records.append(msgspec.json.decode(line, type=Failure))
    return records


def differences(
    here: Iterable[Record], there: Iterable[Record], tolerance: float = TOLERANCE
) -> list[str]:
    """Say in one sentence for each image in what its records differ; nothing if in nothing.

    Attention, probabilities and the files' times are not compared: they follow from what is, or
    do not matter.
    """
    ours, theirs = ({str(record.path): record for record in side} for side in (here, there))
    if not ours and not theirs:
        return ["No image was judged."]
    found = []
    for path in dict.fromkeys([*ours, *theirs]):
        one, other = ours.get(path), theirs.get(path)
        if one is None or other is None:
            found.append(f"{path}: only the {'second' if one is None else 'first'} machine has it.")
        elif isinstance(one, Failure) or isinstance(other, Failure):
            messages = [side.error.message for side in (one, other) if isinstance(side, Failure)]
            found.append(f"{path}: it was not judged: {' '.join(messages)}")
        elif difference := _difference(one, other, tolerance):
            found.append(f"{path}: {difference}.")
    return found


def _difference(one: Verdict, other: Verdict, tolerance: float) -> str | None:
    """Say what differs first in two verdicts on an image, in the order in which it is made."""
    off = largest_difference([one], [other])
    exact = {
        "bundle": (one.bundle, other.bundle),
        "size": (f"{one.width}x{one.height}", f"{other.width}x{other.height}"),
        "seed": (one.seed, other.seed),
        "places of the crops": (_places(one), _places(other)),
        "verdict": (one.verdict, other.verdict),
        "classes": (sorted(one.logits), sorted(other.logits)),
    }
    for name, (ours, theirs) in exact.items():
        if ours != theirs:
            return f"{name}: {ours} on the first machine, {theirs} on the second"
    if off > tolerance:
        return f"a logit differs by {off:.1e}, more than {tolerance:.0e}"
    return None


def _places(verdict: Verdict) -> list[tuple[int, int, int, int]]:
    """Return each crop's top, left, height and width."""
    return [(crop.top, crop.left, crop.height, crop.width) for crop in verdict.crops]


def largest_difference(here: Iterable[Record], there: Iterable[Record]) -> float:
    """Return the largest difference in any logit of the images that both machines judged."""
    theirs = {other.path: other for other in there if isinstance(other, Verdict)}
    return max(
        (
            abs(logit - theirs[one.path].logits[name])
            for one in here
            if isinstance(one, Verdict) and one.path in theirs
            for name, logit in one.logits.items()
            if name in theirs[one.path].logits
        ),
        default=0.0,
    )


def compare(here: Path, there: Path, command: str) -> Report:
    """Compare what two machines wrote.

    Raises:
        OSError: a file cannot be read.
        msgspec.DecodeError: a file holds something else.
    """
    ours, theirs = (read_records(folder / RECORDS) for folder in (here, there))
    found = differences(ours, theirs)
    verdicts = [record for record in ours if isinstance(record, Verdict)]
    return Report(
        command=command,
        here=msgspec.json.decode((here / SIDE).read_bytes(), type=Side),
        there=msgspec.json.decode((there / SIDE).read_bytes(), type=Side),
        bundle=", ".join(sorted({verdict.bundle for verdict in verdicts})),
        engine=", ".join(sorted({verdict.engine for verdict in verdicts})),
        images=len(ours),
        tolerance=TOLERANCE,
        largest_difference=largest_difference(ours, theirs),
        passed=not found,
        differences=tuple(found),
    )


def main() -> int:
    """Read the command line, compare, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("here", type=Path, help="the folder that judge.py wrote on this machine")
    parser.add_argument("there", type=Path, help="the folder that it wrote on the other one")
    parser.add_argument("--command", required=True, help="what was typed; the report begins so")
    parser.add_argument("-o", "--output", type=Path, action="append", default=[],
                        help="a report, .json or .md; may be given again")  # fmt: skip
    given = parser.parse_args()
    try:
        report = compare(given.here, given.there, given.command)
    except (OSError, msgspec.DecodeError) as error:
        parser.error(f"the records cannot be compared: {error}.")
    for path in given.output:
        as_json = msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n"
        path.write_text(as_json if path.suffix == ".json" else report.to_markdown(), "utf-8")
    outcome = "passed" if report.passed else "failed"
    sys.stdout.write(
        f"{outcome}: {report.images} images, the largest difference in a logit is "
        f"{report.largest_difference:.1e}\n"
    )
    for sentence in report.differences:
        sys.stderr.write(f"{sentence}\n")
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
