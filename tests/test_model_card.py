"""The card says what was measured, and of everything else that it is unknown."""

from __future__ import annotations

import re

import msgspec
import pytest
from glass_edge.runtime.bundle.bundle import sha256_of
from glass_edge.runtime.bundle.comparison import Yardstick
from glass_edge.runtime.bundle.model_card import MODEL_CARD, UNKNOWN, model_card
from glass_edge.runtime.views.places import Ten
from glass_edge.runtime.views.spec import StreamViews

from glass_edge import Bundle


def lines(card: str) -> dict[str, str]:
    """The card's facts by name."""
    return dict(re.findall(r"^- \*\*(.+?)\*\*: (.+)$", card, flags=re.MULTILINE))


def test_every_bundle_has_one(vit_bundle):
    card = (vit_bundle.path / MODEL_CARD).read_text(encoding="utf-8")
    assert card == model_card(vit_bundle)


def test_figures_are_the_manifests(vit_bundle):
    found = lines(model_card(vit_bundle))
    manifest = vit_bundle.manifest
    assert f"{manifest.parity.logit_error:.2g} in any logit" in found["FP32 graphs against PyTorch"]
    assert found["SHA-256 of glass.json"] == sha256_of(vit_bundle.path / "glass.json")
    assert found["Checkpoint"].endswith(manifest.checkpoint.sha256)
    assert found["Classes"] == "fake (AI-generated), real (the paper's)"
    assert found["Detector"] == "GLASS (glass)"
    assert "torch-float-antialias" in found["Views, global"]
    assert found["Views, local"] == f"{manifest.views.num_crops} crops of 224x224"
    assert found["Preset"] == "paper (arXiv 2601.00141)"
    assert "PyTorch" in found["Self-test"]


def test_a_low_precision_says_how_verdicts_changed(make_precision):
    bundle = make_precision("vit", "int8")
    found = lines(model_card(bundle))
    comparison, calibration = bundle.manifest.comparison, bundle.manifest.calibration
    start = f"{comparison.flips} of {comparison.judgements} changed"
    assert found["Verdicts against FP32's"].startswith(start)
    assert found["INT8's ranges"].startswith(f"from {calibration.images} images")


@pytest.mark.parametrize(
    ("yardstick", "said"),
    [
        (
            Yardstick(0.4, "draws", 0.043, 0.25, -0.021),
            "INT8 adds 3.1 % to the noise that the choice of crops has anyway: its error is 0.25 "
            "of it, its shift 0.02; 4.3% of the verdicts differ between two draws of an image's "
            "crops",
        ),
        (
            Yardstick(2.0, "images", 0.0, 0.1, 0.03),
            "INT8's error is 0.10 of the margin's spread over images, its shift 0.03; no two draws "
            "of an image's crops differ",
        ),
        (None, UNKNOWN),
    ],
)
def test_the_loss_is_told_beside_what_the_choice_of_crops_changes(yardstick, said, make_precision):
    bundle = make_precision("vit", "int8")
    comparison = msgspec.structs.replace(bundle.manifest.comparison, yardstick=yardstick)
    manifest = msgspec.structs.replace(bundle.manifest, comparison=comparison)
    found = lines(model_card(Bundle(bundle.path, manifest, bundle.digest)))
    assert found["Beside the choice of crops"] == said


def test_what_nobody_measured_is_unknown(vit_bundle):
    found = lines(model_card(vit_bundle))
    unknown = [what for what, value in found.items() if value == UNKNOWN]
    for word in ("Training data", "generators", "Accuracy", "recompression", "people", "Licence"):
        assert any(word in what for what in unknown), word
    assert "accuracy of" not in model_card(vit_bundle)


def test_weaknesses_are_said(vit_bundle):
    card = model_card(vit_bundle)
    for words in ("evidence, not proof", "generators", "Recompression", "another seed"):
        assert words in card


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "[a](http://b)", "**x**", "`x`"])
def test_no_name_is_markup(name, vit_bundle):
    manifest = msgspec.structs.replace(vit_bundle.manifest, classes=(name, "real"), fake_class=name)
    card = model_card(Bundle(vit_bundle.path, manifest, vit_bundle.digest))
    assert name not in card
    assert (
        re.sub(r"\\(.)", r"\1", lines(card)["Classes"])
        == f"{name} (AI-generated), real (the paper's)"
    )


@pytest.mark.parametrize("field", ["title", "preset", "preset_source", "classes_source"])
def test_nothing_that_is_said_of_a_detector_is_markup(field, vit_bundle):
    entry = msgspec.structs.replace(vit_bundle.manifest.detector, **{field: "<b>[a](http://b)</b>"})
    manifest = msgspec.structs.replace(vit_bundle.manifest, detector=entry)
    card = model_card(Bundle(vit_bundle.path, manifest, vit_bundle.digest))
    assert "<b>" not in card
    assert "[a](" not in card
    assert "<b>[a](http://b)</b>" in re.sub(r"\\(.)", r"\1", card)


def test_only_what_draws_its_views_is_said_to_depend_on_a_seed(vit_bundle):
    streams = dict(vit_bundle.manifest.streams)
    places = StreamViews(224, "uint8", places=Ten())
    streams["local"] = msgspec.structs.replace(streams["local"], views=places)
    manifest = msgspec.structs.replace(vit_bundle.manifest, streams=streams)
    card = model_card(Bundle(vit_bundle.path, manifest, vit_bundle.digest))
    assert lines(card)["Views, local"] == "10 crops of 224x224, corners and centre"
    assert "another seed" not in card
