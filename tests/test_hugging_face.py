"""Folders of Hugging Face give the logits of transformers, and the views of their processors.

``data/detectors/transformers.npz`` holds what transformers 5.24 computes: a classifier of each
architecture, with ``SMALL`` sizes and random weights, judges three random pictures (divided by
127.5, minus 1). Weights are stored as bytes: those of normalisation are ``1 + byte / 256``, all
others ``byte / 256``. Sizes: ViT, SigLIP and DINOv2 have two layers, two heads, width 32, an MLP
of 48 (DINOv2: 64) and patches of 8 in pictures of 32 (DINOv2: positions of 40, interpolated);
ConvNeXt is ``[1, 1, 2, 1]`` of ``[8, 16, 24, 32]``; Swin is ``[2, 2]`` from 8 wide, with windows
of 4, patches of 2, and 1 and 2 heads.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from conftest import DATA, slow
from detector_graphs import floats, load, pixel_session, pixels_of, run, source, told, views_of
from glass_edge.export.detectors.hf_classes import classes_of, fake_of
from glass_edge.export.detectors.hf_views import preset_of
from glass_edge.export.detectors.reading import open_source
from glass_edge.export.detectors.registry import Source
from glass_edge.export.errors import CheckpointError
from glass_edge.runtime.views.places import Centre
from glass_edge.runtime.views.spec import Resize, StreamViews
from safetensors.torch import save_file
from torch import Tensor

ARCHITECTURES = ("vit", "convnext", "swin", "siglip", "dinov2")
SQUARE_32 = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "ViTImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 32, "width": 32},
}
SIDES = dict.fromkeys(ARCHITECTURES, 32) | {"convnext": 64}


@cache
def stored() -> dict[str, np.ndarray]:
    with np.load(DATA / "detectors" / "transformers.npz") as file:
        return dict(file)


def weights_of(name: str) -> dict[str, Tensor]:
    shapes = json.loads(str(stored()[f"{name}-shapes"]))
    values = torch.from_numpy(stored()[f"{name}-weights"]).float() / 256
    parts = values.split([int(np.prod(shape)) for shape in shapes.values()])
    return {
        key: part.reshape(shape) + float("norm" in key and key.endswith("weight"))
        for (key, shape), part in zip(shapes.items(), parts, strict=True)
    }


def folder(name: str = "vit", **changes: Any) -> Source:
    side = SIDES[name]
    config = json.loads(str(stored()[f"{name}-config"]))
    given = {
        "config": config,
        "preprocessor": {**SQUARE_32, "size": {"height": side, "width": side}},
    }
    return source(weights_of(name), **{**given, **changes})


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_logits_are_those_of_transformers(name):
    detector, _ = load("hugging-face", folder(name))
    views = torch.from_numpy(stored()[f"{name}-views"]).permute(0, 3, 1, 2) / 127.5 - 1
    expected = torch.from_numpy(stored()[f"{name}-logits"])
    torch.testing.assert_close(detector.streams["global"](views), expected, atol=1e-5, rtol=1e-4)
    assert detector.aggregator is None
    assert detector.classes.names == ("artificial", "human")
    assert detector.classes.fake == "artificial"


@pytest.mark.parametrize("name", ["vit", slow("swin"), slow("dinov2")])
@torch.no_grad()
def test_graphs_give_the_same_for_any_batch(name):
    detector, _ = load("hugging-face", folder(name))
    module = detector.streams["global"]
    graph = pixel_session(module, SIDES[name], [floats("logits", "batch", 2)])
    for count in (1, 3):
        pixels = pixels_of(count, SIDES[name])
        (found,) = run(graph, pixels)
        torch.testing.assert_close(found, module(views_of(pixels)), atol=1e-4, rtol=1e-4)


def test_the_folder_is_told_by_its_architecture():
    assert told(folder()) == "hugging-face"
    assert told(folder(config={})) is None


def test_a_folder_is_read_as_transformers_saves_it(tmp_path):
    given = folder()
    save_file(given.state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(given.config))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(given.preprocessor))
    found = open_source(tmp_path, None, None)
    assert told(found) == "hugging-face"
    detector, preset = load("hugging-face", found)
    expected, _ = load("hugging-face", given)
    views = views_of(pixels_of(1, 32))
    assert torch.equal(detector.streams["global"](views), expected.streams["global"](views))
    assert preset.views["global"].size == 32


class TestViews:
    def views(self, **changes: Any) -> StreamViews:
        return preset_of({**SQUARE_32, **changes}).views["global"]

    @pytest.mark.parametrize("size", [32, {"height": 32, "width": 32}])
    def test_vit_stretches(self, size):
        expected = StreamViews(32, "uint8", Resize("pillow-bilinear", "stretch", 32))
        assert self.views(size=size) == expected

    def test_resample_3_is_bicubic(self):
        assert self.views(resample=3).resize == Resize("pillow-bicubic", "stretch", 32)

    @pytest.mark.parametrize("size", [40, {"shortest_edge": 40}])
    @pytest.mark.parametrize("crop", [32, {"height": 32, "width": 32}])
    def test_clips_processor_cuts_the_middle_after_resizing_the_shortest_edge(self, size, crop):
        found = self.views(
            image_processor_type="CLIPImageProcessor",
            size=size,
            do_center_crop=True,
            crop_size=crop,
        )
        resize = Resize("pillow-bilinear", "short-side", 40)
        assert found == StreamViews(32, "uint8", resize, Centre("floor"))

    def test_deits_processor_cuts_the_middle_of_a_square(self):
        found = self.views(
            image_processor_type="DeiTImageProcessor", size=40, do_center_crop=True, crop_size=32
        )
        resize = Resize("pillow-bilinear", "stretch", 40)
        assert found == StreamViews(32, "uint8", resize, Centre("floor"))

    @pytest.mark.parametrize(
        ("size", "crop_pct", "edge"), [(224, None, 256), (224, 0.95, 235), (288, 1.0, 288)]
    )
    def test_convnexts_processor_cuts_its_share(self, size, crop_pct, edge):
        found = self.views(
            image_processor_type="ConvNextImageProcessor",
            size={"shortest_edge": size},
            crop_pct=crop_pct,
        )
        resize = Resize("pillow-bilinear", "short-side", edge)
        assert found == StreamViews(size, "uint8", resize, Centre("floor"))

    def test_convnexts_processor_stretches_to_large_sizes(self):
        found = self.views(feature_extractor_type="ConvNextFeatureExtractor", size=384)
        assert found.resize == Resize("pillow-bilinear", "stretch", 384)
        assert found.places is None

    def test_normalisation_is_the_files(self):
        mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
        found = preset_of({**SQUARE_32, "image_mean": mean, "image_std": std}).normalisation
        assert (found.mean, found.std) == (tuple(mean), tuple(std))
        found = preset_of({**SQUARE_32, "do_normalize": False}).normalisation
        assert (found.mean, found.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"resample": 1}, "resample 1: only 2"),
            ({"do_resize": False}, "turns do_resize off"),
            ({"do_rescale": False}, "does not divide pixels by 255"),
            ({"rescale_factor": 1.0}, "does not divide pixels by 255"),
            ({"size": {"height": 32, "width": 48}}, "only square views"),
            ({"size": {"shortest_edge": 32}}, "without a centre crop"),
            ({"size": None}, "has size None"),
            ({"size": 40, "do_center_crop": True, "crop_size": 48}, "cuts 48x48 pixels from"),
            ({"image_mean": [0.5]}, "needs three numbers as image_mean"),
            (
                {"image_processor_type": "ConvNextImageProcessor", "size": 9, "crop_pct": 2},
                "crop_pct 2",
            ),
        ],
    )
    def test_what_a_bundle_cannot_say_is_refused(self, changes, message):
        with pytest.raises(CheckpointError, match=message):
            self.views(**changes)

    def test_a_folder_without_processor_is_refused(self):
        with pytest.raises(CheckpointError, match=r"no preprocessor_config\.json"):
            preset_of({})


@pytest.mark.parametrize(
    ("names", "fake"),
    [
        (("artificial", "human"), "artificial"),
        (("AI", "Real"), "AI"),
        (("REAL", "FAKE"), "FAKE"),
        (("Realism", "Deepfake"), "Deepfake"),
        (("hum", "ai"), "ai"),
        (("natural_images", "ai-generated images"), "ai-generated images"),
        (("AiGenerated", "RealPhoto"), "AiGenerated"),
        (("authentic", "synthetic"), "synthetic"),
        (("human generated", "generated"), "generated"),
        (("human-generated", "machine-generated"), "machine-generated"),
        (("LABEL_0", "LABEL_1"), None),
        (("fake", "ai"), None),
        (("real", "photo"), None),
        (("fake", "not fake"), None),
        (("fake", "cat"), None),
        (("fake photo", "real photo"), None),
        (("said", "fair"), None),
    ],
)
def test_the_fake_class_is_told_by_words_or_not_at_all(names, fake):
    assert fake_of(names) == fake


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"0": "cat", "1": "dog"}, "'cat' and 'dog' do not tell .* --fake-class"),
        ({"0": "real", "1": "fake", "2": "edited"}, "3 classes in id2label"),
        (None, "has no id2label"),
        ({"0": "real", "7": "fake"}, "two different names to the classes 0 and 1"),
        ({"0": "fake", "1": "fake"}, "two different names"),
    ],
)
def test_classes_that_are_not_told_are_refused(labels, message):
    with pytest.raises(CheckpointError, match=message):
        classes_of({"id2label": labels})


def test_the_order_of_id2label_is_that_of_its_indices():
    classes = classes_of({"id2label": {"1": "fake", "0": "real"}})
    assert (classes.names, classes.fake) == (("real", "fake"), "fake")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["BeitForImageClassification"]},
            "BeitForImageClassification, which is not",
        ),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"layer_norm_eps": "tiny"}, "layer_norm_eps 'tiny'"),
        ({"num_attention_heads": 5}, "weights of ViT"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(changes, message):
    config = json.loads(str(stored()["vit-config"]))
    with pytest.raises(CheckpointError, match=message):
        load("hugging-face", folder(config={**config, **changes}))


def test_views_of_another_size_than_the_networks_are_refused():
    with pytest.raises(CheckpointError, match=r"of 32x32, .* makes views of 48x48"):
        load("hugging-face", folder(preprocessor={**SQUARE_32, "size": 48}))


def test_a_classifier_of_more_classes_is_refused():
    state = {**weights_of("vit"), "classifier.weight": torch.ones(3, 32)}
    state["classifier.bias"] = torch.ones(3)
    given = folder()
    with pytest.raises(CheckpointError, match="3 outputs"):
        load("hugging-face", source(state, config=given.config, preprocessor=SQUARE_32))


def test_missing_weights_are_named():
    state = weights_of("vit")
    del state["vit.layernorm.weight"]
    given = folder()
    with pytest.raises(CheckpointError, match=r"weights of ViT \(1 missing: norm.weight\)"):
        load("hugging-face", source(state, config=given.config, preprocessor=SQUARE_32))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tensors_of_impossible_shapes_are_refused(name):
    given = folder(name)
    keys = [key for key in given.state if not key.endswith("mask_token")]
    for key in ("classifier.weight", *keys[2:12]):
        for shape in ((), (3,)):
            state = {**given.state, key: torch.ones(shape)}
            with pytest.raises(CheckpointError, match=r"weights of|outputs") as caught:
                load(
                    "hugging-face",
                    source(state, config=given.config, preprocessor=given.preprocessor),
                )
            assert "\n" not in str(caught.value)
