"""What ``glass-export`` and ``glass-quantize`` print of a bundle's precision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.comparison import Comparison
from ...runtime.bundle.manifest import Calibration, Manifest
from ..judging.gate import loss_note


def summarise(source: Path, bundle: Bundle) -> None:
    """Print what was made from the bundle ``source`` and measured; notes go to standard error."""
    lines = {"source": str(source), "bundle": describe_files(bundle)}
    print_lines(lines | precision_lines(bundle.manifest))
    print_notes(precision_notes(bundle.manifest))


def print_lines(lines: Mapping[str, str]) -> None:
    """Print what was found, a line for each thing."""
    for name, text in lines.items():
        click.echo(f"{name:<10}  {text}")


def print_notes(notes: Iterable[str]) -> None:
    """Print on standard error what the user should know."""
    for note in notes:
        click.echo(f"Note: {note}", err=True)


def describe_files(bundle: Bundle) -> str:
    """Return where a bundle is, its precision, and the sizes of its files."""
    sizes = {path.name: path.stat().st_size for path in sorted(bundle.path.iterdir())}
    files = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
    total = sum(sizes.values()) / 1e6
    return f"{bundle.path} ({bundle.manifest.types}, {total:.1f} MB: {files})"


def precision_lines(manifest: Manifest) -> dict[str, str]:
    """Return how a lower precision was made and what it costs; nothing for FP32."""
    lines = {}
    if manifest.calibration is not None:
        lines["calibrated"] = _calibrated(manifest.calibration)
    if manifest.kept:
        kept = ", ".join(
            f"{len(names)} nodes of the {role} graph" for role, names in manifest.kept.items()
        )
        lines["kept"] = f"{kept} in a higher type, for their range or their sensitivity"
    if manifest.comparison is not None:
        lines["verdicts"] = _survival(manifest.comparison)
    return lines


def precision_notes(manifest: Manifest) -> Iterator[str]:
    """Yield what the user should know of a lower precision."""
    if manifest.calibration is not None:
        yield from manifest.calibration.notes
    comparison = manifest.comparison
    if comparison is not None and (note := loss_note(comparison)) is not None:
        yield note
    if comparison is not None and comparison.speed < 1.0:
        yield (
            f"{manifest.precision} does not pay here: it runs at {comparison.speed:.2f} times "
            f"FP32's speed on {comparison.engine}."
        )
    if comparison is not None and comparison.precision != manifest.precision:
        yield (
            f"{comparison.engine} computes this bundle in {comparison.precision} on this machine."
        )


def _calibrated(calibration: Calibration) -> str:
    methods = ", ".join(f"{role} graph {method}" for role, method in calibration.methods.items())
    return f"on {calibration.images} images; {methods}"


def _survival(comparison: Comparison) -> str:
    found = [
        f"{comparison.flips} of {comparison.judgements} differ from FP32's",
        f"P(fake) changes by {comparison.mean_change:.4f} on average, "
        f"{comparison.largest_change:.4f} at most",
        f"{comparison.speed:.2f} times FP32's speed ({comparison.engine})",
    ]
    if comparison.moved is not None:
        found.append(f"{comparison.moved:.1%} of the guided views lie elsewhere")
    if comparison.yardstick is not None:
        found.append(comparison.yardstick.sentence(comparison.precision))
    return "; ".join(found)
