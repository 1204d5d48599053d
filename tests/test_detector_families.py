"""Detectors of one view give the logits that their authors' networks give."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import detector_files as files
import pytest
import timm
import torch
from conftest import DATA, EXAMPLES, ROOT, golden_picture
from glass_edge.export.detectors.ferretnet import MedianResidual
from glass_edge.export.detectors.networks.hf_vit import timm_vit_state
from glass_edge.export.detectors.npr import NeighbourResidual
from glass_edge.export.detectors.presets import CLIP, IMAGENET
from PIL import Image
from random_checkpoints import as_if_trained
from timm.data import create_transform, resolve_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import (
    ConvNeXt,
    ResNet,
    ResNet50_Weights,
    resnet18,
)
from torchvision.models import (
    VisionTransformer as TorchvisionViT,
)
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.resnet import Bottleneck
from torchvision.transforms import functional as pictures

GOLDEN = json.loads((DATA / "detectors" / "ferretnet.json").read_text())
WEIGHTS = ROOT.parent / "shared/golden/detectors/ferretnet/ferretnet-s-median-3.pth"


def views(side: int, count: int = 3) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(side))


def logits(state: files.State, given: Tensor, folder: Path, **options: object) -> Tensor:
    """What the detector that a file holds says of views."""
    _, detector = files.opened(files.saved(state, folder / "d.pt"), **options)
    assert detector.aggregator is None
    ((name, network),) = detector.streams.items()
    assert name == "global"
    return network(given)


def assert_one_logit(found: Tensor, expected: Tensor) -> None:
    """A detector of one logit z says (0, z), whose softmax is z's sigmoid."""
    assert expected.std() > 1e-3, "the views make no difference"
    assert torch.equal(found[:, 0], torch.zeros(len(found)))
    torch.testing.assert_close(found[:, 1:], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.softmax(1)[:, 1:], expected.sigmoid())


# --- what each network computes, written from its description --------------------------------


def normalised(state: files.State, name: str, maps: Tensor) -> Tensor:
    parts = (state[f"{name}.{each}"] for each in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(maps, *parts)


def npr_logit(state: files.State, given: Tensor) -> Tensor:
    """A ResNet of two stages on pixels minus their blocks' corners; its own stem is 3x3."""
    trunk = ResNet(Bottleneck, [2, 1, 1, 1]).eval()
    trunk.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
    trunk.load_state_dict(state, strict=False)
    pixels = given.numpy()
    corners = pixels[:, :, ::2, ::2].repeat(2, axis=2).repeat(2, axis=3)
    maps = trunk.conv1(torch.from_numpy(pixels - corners) * 2.0 / 3.0)
    maps = trunk.layer2(trunk.layer1(trunk.maxpool(trunk.bn1(maps).relu())))
    return F.linear(maps.mean((2, 3)), state["fc1.weight"], state["fc1.bias"])


def medians(given: Tensor) -> Tensor:
    """Of a pixel's eight neighbours, zero beyond the border, and a zero."""
    batch, channels, height, width = given.shape
    nine = F.unfold(given, 3, padding=1).reshape(batch, channels, 9, height, width)
    nine[:, :, 4] = 0
    return nine.median(dim=2).values


def ferretnet_logit(state: files.State, given: Tensor) -> Tensor:
    maps = F.conv2d(given - medians(given), state["cbr1.0.weight"], padding=1)
    maps = F.conv2d(normalised(state, "cbr1.1", maps).relu(), state["cbr2.0.weight"], None, 2, 1)
    maps = normalised(state, "cbr2.1", maps).relu()
    for block in ("0.0", "0.1", "1.0"):
        maps = ferretnet_block(state, f"feature.{block}", maps)
    pooled = F.conv2d(maps, state["feature.2.weight"]).mean((2, 3))
    return F.linear(pooled, state["logit.1.weight"], state["logit.1.bias"])


def ferretnet_block(state: files.State, name: str, maps: Tensor) -> Tensor:
    stride = 2 if f"{name}.shortcut.0.weight" in state else 1
    groups = maps.shape[1]
    one, dilated, mix, depth, point = (
        state[f"{name}.layers.{each}.weight"]
        for each in ("0.conv1", "0.conv2", "0.conv3", "3.depth_wise", "3.point_wise")
    )
    inner = F.conv2d(maps, one, None, stride, 1, 1, groups)
    inner = F.conv2d(inner + F.conv2d(maps, dilated, None, stride, 2, 2, groups), mix)
    inner = normalised(state, f"{name}.layers.1", inner).relu()
    inner = F.conv2d(F.conv2d(inner, depth, padding=1, groups=len(depth)), point)
    inner = normalised(state, f"{name}.layers.4", inner)
    if stride == 2:
        weight, bias = (state[f"{name}.shortcut.0.{each}"] for each in ("weight", "bias"))
        maps = normalised(state, f"{name}.shortcut.1", F.conv2d(maps, weight, bias, stride))
    return (inner + maps).relu()


def hf_vit_features(state: files.State, given: Tensor, heads: int) -> Tensor:
    """The last hidden state of a ViTModel's class token, before the pooler."""

    def linear(name: str, tokens: Tensor) -> Tensor:
        return F.linear(tokens, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, tokens: Tensor) -> Tensor:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.layer_norm(tokens, weight.shape, weight, bias, 1e-12)

    name = "embeddings.patch_embeddings.projection"
    patches = F.conv2d(given, state[f"{name}.weight"], state[f"{name}.bias"], files.PATCH)
    classes = state["embeddings.cls_token"].expand(len(given), -1, -1)
    tokens = (
        torch.cat([classes, patches.flatten(2).mT], 1) + state["embeddings.position_embeddings"]
    )
    for layer in sorted({key.split(".")[2] for key in state if key.startswith("encoder.layer.")}):
        name = f"encoder.layer.{layer}"
        before = norm(f"{name}.layernorm_before", tokens)
        query, key, value = (
            linear(f"{name}.attention.attention.{each}", before).unflatten(2, (heads, -1)).mT.mT
            .transpose(1, 2)
            for each in ("query", "key", "value")
        )  # fmt: skip
        scores = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        mixed = (scores @ value).transpose(1, 2).flatten(2)
        tokens = tokens + linear(f"{name}.attention.output.dense", mixed)
        after = norm(f"{name}.layernorm_after", tokens)
        inner = F.gelu(linear(f"{name}.intermediate.dense", after))
        tokens = tokens + linear(f"{name}.output.dense", inner)
    return norm("layernorm", tokens)[:, 0]


# --- families -------------------------------------------------------------------------------


def test_cnnspot_is_torchvisions_resnet_with_one_logit(tmp_path):
    state = files.cnnspot()
    twin = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=1).eval()
    twin.load_state_dict(state)
    found = logits({"model": state}, views(64), tmp_path, family="cnnspot")
    assert_one_logit(found, twin(views(64)))


class TestNpr:
    def test_looks_at_what_upsampling_leaves(self, tmp_path):
        state = files.npr()
        assert_one_logit(logits(state, views(64), tmp_path), npr_logit(state, views(64)))

    def test_sees_nothing_in_an_upsampled_image(self):
        upsampled = F.interpolate(views(16), scale_factor=2, mode="nearest")
        assert not NeighbourResidual()(upsampled).any()


class TestFerretNet:
    def test_is_a_small_network_on_what_a_median_takes_away(self, tmp_path):
        state = files.ferretnet()
        given = views(48)
        assert_one_logit(logits(state, given, tmp_path), ferretnet_logit(state, given))

    def test_its_median_is_exact(self):
        for given in (views(19), views(1), views(8).round()):
            assert torch.equal(MedianResidual()(given), given - medians(given))

    @pytest.mark.skipif(not WEIGHTS.exists(), reason="the published weights are not here")
    def test_the_published_one_gives_its_authors_logits(self):
        _, detector = files.opened(WEIGHTS)
        crops = [example_crop(each) for each in GOLDEN["examples"]]
        crops += [crop(made_picture(each), each) for each in GOLDEN["made"]]
        expected = torch.tensor([each["logit"] for each in GOLDEN["examples"] + GOLDEN["made"]])
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (CLIP.mean, CLIP.std))
        given = (torch.stack([pictures.to_tensor(each) for each in crops]) - mean) / std
        found = torch.cat([detector.streams["global"](each) for each in given.split(4)])
        torch.testing.assert_close(found[:, 1], expected, rtol=0, atol=1e-4)


def example_crop(entry: dict) -> Image.Image:
    with Image.open(EXAMPLES / entry["file"]) as image:
        return crop(image.convert("RGB"), entry)


def made_picture(entry: dict) -> Image.Image:
    keys = ("height", "width", "picture_seed", "picture_sha256")
    return Image.fromarray(golden_picture(*(entry[key] for key in keys)))


def crop(image: Image.Image, entry: dict) -> Image.Image:
    middle = pictures.center_crop(image, [256, 256])
    assert hashlib.sha256(middle.tobytes()).hexdigest() == entry["crop_sha256"]
    return middle


class TestCommunityForensics:
    @pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s, "epoch": 3}])
    def test_is_timms_vision_transformer_with_one_logit(self, wrap, tmp_path):
        state = files.community_forensics()
        found = logits(wrap(state), views(224), tmp_path)
        assert_one_logit(found, self.twin(state)(views(224)))

    def test_without_its_prefix_it_must_be_named(self, tmp_path):
        state = files.community_forensics()
        plain = {key.removeprefix("vit."): value for key, value in state.items()}
        found = logits(plain, views(224), tmp_path, family="community-forensics")
        assert_one_logit(found, self.twin(state)(views(224)))

    @pytest.mark.parametrize(("tokens", "side", "size"), [(577, 440, 384), (197, 256, 224)])
    def test_its_position_embedding_tells_the_views(self, tokens, side, size):
        state = files.community_forensics() | {"vit.pos_embed": torch.ones(1, tokens, 64)}
        found = files.preset(files.source(state)).views["global"]
        assert (found.resize.side, found.size) == (side, size)
        assert (found.resize.rule, found.resize.fit) == ("pillow-bilinear", "short-side")

    def twin(self, state: files.State) -> nn.Module:
        model = VisionTransformer(224, 16, num_classes=1, embed_dim=64, depth=2, num_heads=1).eval()
        model.load_state_dict({key.removeprefix("vit."): value for key, value in state.items()})
        return model


class TestCode:
    def expected(self, given: Tensor) -> Tensor:
        head = {key: value.float() for key, value in files.code_head().items()}
        features = hf_vit_features(files.hf_vit(), given, heads=3)
        return F.linear(features, head["coef_"], head["intercept_"])

    def test_is_a_linear_head_on_hugging_faces_vision_transformer(self, tmp_path):
        assert_one_logit(logits(files.code(), views(64), tmp_path), self.expected(views(64)))

    @pytest.mark.parametrize("head_first", [True, False])
    def test_head_and_tower_come_in_either_order(self, head_first, tmp_path):
        pair = [files.code_head(), files.hf_vit()]
        first, second = pair if head_first else reversed(pair)
        other = files.saved(second, tmp_path / "other.pt")
        found = logits(first, views(64), tmp_path, backbone=other)
        assert_one_logit(found, self.expected(views(64)))

    def test_small_features_are_normalised_as_hugging_face_does(self, tmp_path):
        """Its epsilon is a millionth of timm's, which shows where tokens are small."""
        state = files.hf_vit(layers=0) | files.hf_vit(layers=1)
        state = {k: v * 1e-4 if k.startswith("embeddings") else v for k, v in state.items()}
        state |= {key: value * 1e-4 for key, value in state.items() if "output.dense" in key}
        head = files.code_head()
        expected = F.linear(
            hf_vit_features(state, views(64), heads=3),
            *(head[key].float() for key in ("coef_", "intercept_")),
        )
        assert_one_logit(logits(state | head, views(64), tmp_path), expected)


def test_hugging_faces_keys_become_timms():
    twin = VisionTransformer(64, 16, num_classes=0, embed_dim=192, depth=2, num_heads=3)
    found = timm_vit_state(
        files.prefixed("vit.", files.hf_vit()) | {"classifier.bias": torch.ones(2)}, "vit."
    )
    assert found.keys() == twin.state_dict().keys()


def of_timm(outputs: int) -> nn.Module:
    return timm.create_model("test_vit", num_classes=outputs, img_size=64)


def of_torchvision(outputs: int) -> nn.Module:
    return resnet18(num_classes=outputs)


def told_vit(outputs: int) -> nn.Module:
    return TorchvisionViT(64, 32, 1, 2, 128, 256, num_classes=outputs)


def told_convnext(outputs: int) -> nn.Module:
    stages = [CNBlockConfig(16, 24, 1), CNBlockConfig(24, 32, 1), CNBlockConfig(32, None, 1)]
    return ConvNeXt(stages, num_classes=outputs)


class TestClassifiers:
    @pytest.mark.parametrize(
        ("build", "outputs", "side", "name"),
        [
            (of_timm, 1, 64, "timm/test_vit"),
            (of_timm, 2, 64, "timm/test_vit"),
            (of_torchvision, 2, 64, None),
            (of_torchvision, 1, 64, "torchvision/resnet18"),
            (told_vit, 1, 64, None),
            (told_convnext, 2, 64, None),
        ],
    )
    def test_keep_their_heads(self, build, outputs, side, name, tmp_path):
        torch.manual_seed(0)
        twin = as_if_trained(build(outputs))
        for each in twin.parameters():  # some heads begin with zeros
            if each.shape[0] == outputs:
                nn.init.normal_(each)
        expected = twin(views(side))
        options = {"architecture": name, "family": "classifier"}
        found = logits(twin.state_dict(), views(side), tmp_path, **options)
        if outputs == 1:
            assert_one_logit(found, expected)
        else:
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(
        ("outputs", "said"),
        [(1, "one logit is of P(fake)"), (2, "of real and fake, in this order")],
    )
    def test_say_that_their_classes_are_assumed(self, outputs, said, tmp_path):
        path = files.saved(of_torchvision(outputs).state_dict(), tmp_path / "d.pt")
        _, detector = files.opened(path, family="classifier")
        assert (detector.classes.names, detector.classes.fake) == (("real", "fake"), "fake")
        assert detector.classes.source.startswith("assumed: ")
        assert said in detector.classes.source

    def test_for_one_size_take_it_from_their_position_embedding(self, tmp_path):
        twin = timm.create_model("test_vit", num_classes=1, img_size=64).eval()
        path = files.saved(twin.state_dict(), tmp_path / "d.pt")
        source, detector = files.opened(path, architecture="timm/test_vit")
        assert files.preset(source).views["global"].size == 64
        torch.testing.assert_close(detector.streams["global"](views(64))[:, 1:], twin(views(64)))


# --- presets --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "test_vit",
        "vit_small_patch16_384",
        "convnext_tiny.fb_in22k_ft_in1k_384",
        "resnetv2_50x1_bit",
    ],
)
def test_timms_own_evaluation_is_the_first_preset(name, tmp_path):
    config = resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    resize, centre = create_transform(**config).transforms[:2]
    preset = files.preset(files.source({}, architecture=f"timm/{name}"))
    found = preset.views["global"]
    assert found.resize.rule == f"pillow-{resize.interpolation.value}"
    short = {"fit": "short-side", "side": resize.size}
    squash = (
        {"fit": "stretch", "side": resize.size[0]} if not isinstance(resize.size, int) else short
    )
    assert {"fit": found.resize.fit, "side": found.resize.side} == squash
    assert (found.size, found.size) == tuple(centre.size)
    assert preset.normalisation.mean == tuple(config["mean"])
    assert preset.normalisation.std == tuple(config["std"])


def test_torchvisions_transforms_are_the_first_preset():
    preset = files.preset(files.source({}, architecture="torchvision/resnet50"))
    theirs = ResNet50_Weights.DEFAULT.transforms()
    found = preset.views["global"]
    assert ([found.size], [found.resize.side]) == (theirs.crop_size, theirs.resize_size)
    assert found.resize.rule == f"pillow-{theirs.interpolation.value}"
    assert [*preset.normalisation.mean] == theirs.mean


def test_a_larger_position_embedding_makes_larger_views_of_the_same_share():
    embedding = {"encoder.pos_embedding": torch.zeros(1, 577, 768)}
    preset = files.preset(files.source(embedding, architecture="torchvision/vit_b_16"))
    found = preset.views["global"]
    assert (found.size, found.resize.side) == (384, 384 * 256 // 224)


ONE_VIEW = {
    "cnnspot": ["centre-224"],
    "npr": ["stretch-256", "centre-224"],
    "ferretnet": ["centre-256"],
    "community-forensics": ["short-side-256-centre-224"],
    "code": ["centre-224"],
    "classifier": ["short-side-256-centre-224", "centre-224", "stretch-224"],
}


@pytest.mark.parametrize("family", ONE_VIEW)
def test_every_preset_is_free_of_contradictions_and_says_its_source(family):
    presets = files.presets(files.source(files.FILES[family]()), family)
    assert [each.name for each in presets] == ONE_VIEW[family]
    for preset in presets:
        assert preset.views["global"].fault is None
        assert preset.source
        assert preset.normalisation == (CLIP if family == "ferretnet" else IMAGENET)
