"""The model card of a bundle: what was measured, and what is unknown.

All facts come from the manifest. What an export cannot know is listed as unknown, for the
publisher of the bundle to fill in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from .bundle import Bundle
from .comparison import Comparison
from .manifest import MANIFEST_NAME, Calibration, Manifest, OwnModel, Parity

MODEL_CARD = "MODEL_CARD.md"
UNKNOWN = "unknown"

_UNKNOWN_TO_THE_EXPORT = (
    "Training data, their sources and licences",
    "Which generators made the fakes it was trained on",
    "Accuracy, ROC AUC, calibration and errors on any kind of image (measure with glass-eval)",
    "Accuracy after recompression, rescaling or screenshots (glass-eval measures some of it)",
    "Errors that fall on some people, places or subjects more than on others",
    "Licence of the weights, and whom to ask",
)
_WEAKNESSES = (
    "A verdict is evidence, not proof: do not act on it alone where it could harm someone.",
    "A detector knows the generators that it was trained on; others, newer ones above all, may "
    "pass as real.",
    "Recompression, rescaling, filters, noise and screenshots remove what it looks for; errors "
    "occur in both directions.",
    "Whoever has the weights can change an image invisibly until the verdict changes.",
    "P(fake) is the model's own score. Unless it was calibrated on images like yours, it does not "
    "say how often such a verdict is right.",
    "For an image that is partly generated, edited, or shows a generated picture, no verdict is "
    "right.",
)
_DRAWN = (
    "Crops are drawn at random, from the image's content and a seed: another seed may change a "
    "close verdict."
)


def write_model_card(bundle: Bundle) -> Path:
    """Write the card into the bundle's folder; the manifest does not list it."""
    path = bundle.path / MODEL_CARD
    path.write_text(model_card(bundle), encoding="utf-8")
    return path


def model_card(bundle: Bundle) -> str:
    """Return the card as Markdown."""
    manifest = bundle.manifest
    unknown = [(what, UNKNOWN) for what in _UNKNOWN_TO_THE_EXPORT]
    sections = (
        f"# {_plain(bundle.path.name)}\n\nA detector of AI-generated images "
        f"({_plain(manifest.detector.title)}), exported by glass-edge. Figures are those of "
        f"`{MANIFEST_NAME}`.",
        _list("What it is", _facts(manifest, bundle.digest)),
        _list("What was measured", _measured(manifest)),
        _list("What the export does not know", unknown),
        "## What it is known to be weak at\n\n"
        + "\n".join(f"- {text}" for text in weaknesses(drawn=manifest.views.drawn)),
    )
    return "\n\n".join(sections) + "\n"


def weaknesses(*, drawn: bool) -> tuple[str, ...]:
    """Return what any detector is weak at, and one whose crops are ``drawn`` at random."""
    return (*_WEAKNESSES, _DRAWN) if drawn else _WEAKNESSES


def _facts(manifest: Manifest, digest: str) -> Iterator[tuple[str, str]]:
    backbone, detector = manifest.backbone, manifest.detector
    others = [name for name in manifest.classes if name != manifest.fake_class]
    shared = ", one set of weights for all streams" if backbone.shared else ""
    yield "Detector", f"{detector.title} ({detector.family})"
    yield "Backbone", f"{backbone.name} ({backbone.family}){shared}"
    for name, views in manifest.views.streams.items():
        yield f"Views, {name}", str(views)
    yield "Preset", f"{detector.preset} ({detector.preset_source})"
    yield "Normalised", str(manifest.normalisation)
    classes = f"{manifest.fake_class} (AI-generated), {', '.join(others)}"
    yield "Classes", f"{classes} ({detector.classes_source})"
    yield "Precision", manifest.types
    yield "Nodes kept in a higher type", str(sum(map(len, manifest.kept.values())))
    yield "Checkpoint", f"{manifest.checkpoint.file}, SHA-256 {manifest.checkpoint.sha256}"
    if manifest.checkpoint.weights is not None:
        yield "Weights", "an average (EMA)" if manifest.checkpoint.weights == "ema" else "raw"
    yield f"SHA-256 of {MANIFEST_NAME}", digest
    yield "Versions", ", ".join(f"{name} {found}" for name, found in manifest.versions.items())


def _measured(manifest: Manifest) -> Iterator[tuple[str, str]]:
    aggregator = manifest.aggregator
    attends = aggregator is not None and len(aggregator.outputs) > 1
    yield "FP32 graphs against PyTorch", _parity(manifest.parity, attends=attends)
    yield "FP32 graphs against the training's own model", _own_model(manifest.own_model)
    if manifest.precision != "fp32":
        yield "Verdicts against FP32's", _comparison(manifest.comparison)
        drawn = manifest.views.drawn
        yield "Beside the choice of crops" if drawn else "Beside other images", _yardstick(manifest)
    if manifest.precision == "int8":
        yield "INT8's ranges", _calibration(manifest.calibration)
    if manifest.stopping is not None:
        rule = manifest.stopping
        crops = f"{rule.mean_crops:.2f} crops on average, up to {rule.most_crops}"
        yield "Stopping rule", f"{crops}; {rule.evidence}"
    if manifest.scores is not None:
        yield "P(fake)", manifest.scores.evidence
    reference = manifest.reference
    yield (
        "Self-test",
        f"{len(reference.logits)} images in the bundle, logits expected as {reference.source} "
        "gave them",
    )


def _parity(parity: Parity | None, *, attends: bool) -> str:
    if parity is None:
        return UNKNOWN
    attention = f" and {parity.attention_error:.2g} in any attention weight" if attends else ""
    maps = "" if parity.map_error is None else f", {parity.map_error:.2g} in any score map"
    return (
        f"largest difference {parity.logit_error:.2g} in any logit{attention}{maps} "
        f"({parity.tolerance:g} allowed), {parity.images} photographs, batches "
        f"{', '.join(map(str, parity.batch_sizes))}"
    )


def _own_model(found: OwnModel | None) -> str:
    if found is None:
        return f"{UNKNOWN} (PyTorch's side above was rebuilt from the checkpoint's keys)"
    return (
        f"largest difference {found.logit_error:.2g} in any logit of {found.inputs} inputs "
        f"({found.file}, SHA-256 {found.sha256})"
    )


def _comparison(comparison: Comparison | None) -> str:
    if comparison is None:
        return UNKNOWN
    return (
        f"{comparison.flips} of {comparison.judgements} changed; P(fake) moved by "
        f"{comparison.mean_change:.4f} on average, {comparison.largest_change:.4f} at most "
        f"({comparison.images} images; {comparison.engine}, computing in {comparison.precision})"
    )


def _yardstick(manifest: Manifest) -> str:
    found = manifest.comparison.yardstick if manifest.comparison else None
    if found is None:
        return UNKNOWN
    if not manifest.views.drawn:
        return found.sentence(manifest.precision)
    differ = f"{found.flips:.1%} of the verdicts differ between two draws of an image's crops"
    if found.unit == "images":
        differ = "no two draws of an image's crops differ"
    return f"{found.sentence(manifest.precision)}; {differ}"


def _calibration(calibration: Calibration | None) -> str:
    if calibration is None:
        return UNKNOWN
    methods = ", ".join(f"{role} by {method}" for role, method in calibration.methods.items())
    notes = "".join(f"; {note}" for note in calibration.notes)
    return f"from {calibration.images} images ({methods}){notes}"


def _list(title: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = "\n".join(f"- **{what}**: {_plain(value)}" for what, value in rows)
    return f"## {title}\n\n{lines}"


def _plain(text: str) -> str:
    """Escape what Markdown or HTML would interpret."""
    return "".join(f"\\{sign}" if sign in "\\`*[]<>#|" else sign for sign in text)
