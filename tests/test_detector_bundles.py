"""Detectors other than GLASS from their checkpoints to verdicts, as users run them."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from functools import cache
from pathlib import Path

import detector_files as files
import numpy as np
import pytest
import test_fusing
import test_spai
import timm
import torch
from conftest import DATA, EXAMPLES, ROOT, call, golden_picture, refusal, slow, slow_but
from detector_graphs import load, source
from glass_edge.calibration.images import split_images
from glass_edge.calibration.judging.views import trial_views
from glass_edge.calibration.making.variants import make_variant
from glass_edge.calibration.options import CalibrationOptions, VariantOptions
from glass_edge.export import exporter
from glass_edge.export.detectors.networks.parts import TwoLogits
from glass_edge.export.detectors.registry import Detector as Network
from glass_edge.export.exporter import export_bundle
from glass_edge.export.options import ExportOptions
from glass_edge.runtime.engines.base import EngineOptions
from glass_edge.runtime.engines.registry import open_engine
from glass_edge.runtime.views.places import Ten
from glass_edge.runtime.views.spec import StreamViews
from PIL import Image
from random_checkpoints import random_detectors
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet50
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from glass_edge import Bundle, Detector, DetectorOptions, ImageError, InputError

GOLDEN = json.loads((DATA / "detectors" / "ferretnet.json").read_text())
PUBLISHED = ROOT.parent / "shared/golden/detectors/ferretnet/ferretnet-s-median-3.pth"
PICTURE = ("height", "width", "picture_seed", "picture_sha256")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ENGINES = ("onnxruntime", "openvino")


def margins(verdicts) -> np.ndarray:
    return np.array([each.logits["fake"] - each.logits["real"] for each in verdicts])


def exported(content: object, name: str, shared, **options: object) -> Bundle:
    """Save a checkpoint, and export it as a user does."""

    def make(place: Path) -> None:
        checkpoint = place.with_suffix(".pth")
        torch.save(content, checkpoint)
        export_bundle(checkpoint, place, ExportOptions(**options))

    return Bundle.open(shared.make(f"{name}.glass", make))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    """Photographs of many sizes; two are smaller than a view, and one has hundreds of tiles."""
    folder = tmp_path_factory.mktemp("photos")
    originals = [EXAMPLES / "real" / name for name in ("astronaut.jpg", "cat.jpg", "coffee.jpg")]
    sizes = [(512, 512), (451, 300), (230, 700), (20, 90), (33, 31)]
    paths = []
    for number, size in enumerate(sizes):
        path = folder / f"{number}.png"
        Image.open(originals[number % 3]).convert("RGB").resize(size).save(path)
        paths.append(path)
    return paths


# --- one view -------------------------------------------------------------------------------


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published weights of FerretNet-S")
class TestFerretNetAsPublished:
    @pytest.fixture
    def bundle(self, shared):
        def make(place: Path) -> None:
            export_bundle(PUBLISHED, place, ExportOptions())

        return Bundle.open(shared.make("ferretnet.glass", make))

    @pytest.mark.parametrize("engine", ENGINES)
    def test_photographs_get_the_logits_of_its_own_code(self, bundle, engine):
        paths = [EXAMPLES / case["file"] for case in GOLDEN["examples"]]
        found = Detector(bundle, DetectorOptions(engine=engine)).detect(paths)
        expected = [case["logit"] for case in GOLDEN["examples"]]
        assert margins(found) == pytest.approx(np.array(expected), abs=1e-4)
        assert [each.score for each in found] == pytest.approx(
            [case["p_fake"] for case in GOLDEN["examples"]], abs=1e-5
        )

    def test_made_pictures_too_which_may_be_smaller_than_its_view(self, bundle):
        cases = GOLDEN["made"]
        pictures = [golden_picture(*(case[key] for key in PICTURE)) for case in cases]
        found = margins(Detector(bundle).detect(pictures))
        assert found == pytest.approx(np.array([case["logit"] for case in cases]), abs=1e-4)

    @pytest.mark.parametrize("precision", ["fp16", "int8"])
    def test_lower_precisions_pass_the_gate(self, bundle, precision, tmp_path, calibration_images):
        images = split_images(calibration_images, 8) if precision == "int8" else None
        options = VariantOptions(precision, images, CalibrationOptions())
        make_variant(bundle, tmp_path, options)
        comparison = Bundle.open(tmp_path).manifest.comparison
        assert comparison.yardstick.unit == "images"
        assert comparison.yardstick.error <= 0.5
        # Nothing is drawn, so that each image is judged once.
        assert comparison.judgements == comparison.images


def test_a_record_invents_nothing(shared, photos):
    bundle = exported({"netC": files.npr()}, "npr", shared)
    (found,) = Detector(bundle).detect(photos[0])
    assert found.views == {"global": 1}
    assert found.crops == ()
    assert (found.seed, found.settled) == (None, None)
    assert found.probabilities["fake"] == found.score


def test_a_centre_crop_of_the_image_as_it_is_is_in_the_record(shared, photos):
    bundle = exported(files.cnnspot(), "centred", shared, preset="centre-224")
    one, *_, small = Detector(bundle).detect(photos)
    assert [(c.top, c.left, c.height, c.width, c.attention) for c in one.crops] == [
        (144, 144, 224, 224, None)
    ]
    assert [(c.height, c.width) for c in small.crops] == [(31, 33)]


def test_one_view_has_no_influence_because_nothing_is_left_without_it(shared, photos):
    bundle = exported(files.cnnspot(), "centred", shared, preset="centre-224")
    plain = Detector(bundle).detect(photos)
    asked = Detector(bundle, DetectorOptions(influence=True, thumbnails=True)).detect(photos)
    assert asked == plain


def test_numbers_of_crops_are_refused_where_none_are_drawn(shared):
    bundle = exported(files.cnnspot(), "centred", shared, preset="centre-224")
    with pytest.raises(InputError, match="chooses its views by a rule of its own"):
        Detector(bundle, DetectorOptions(crops=4))
    with pytest.raises(InputError, match="draws none: leave the crops out"):
        Detector(bundle, DetectorOptions(crops="auto"))


def test_the_whole_way_by_the_commands(shared, tmp_path, photos):
    """Export, judge, resume, evaluate and calibrate."""
    checkpoint = tmp_path / "commfor.pt"
    torch.save({"model": files.community_forensics()}, checkpoint)
    bundle, output = tmp_path / "commfor.glass", tmp_path / "verdicts.jsonl"
    made = call("glass-export", tmp_path, checkpoint, "-o", bundle)
    assert "this looks like Community Forensics" in made.stderr
    assert "short-side-256-centre-224" in made.stderr
    call("glass-run", tmp_path, photos[0], "-b", bundle, "-o", output)
    call("glass-run", tmp_path, *photos, "-b", bundle, "-o", output, "--resume")
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert [record["path"] for record in records] == list(map(str, photos))
    labelled = tmp_path / "labelled"
    for name, some in (("fake", photos[:2]), ("real", photos[2:])):
        (labelled / name).mkdir(parents=True)
        for path in some:
            (labelled / name / path.name).write_bytes(path.read_bytes())
    report = call("glass-eval", tmp_path, labelled, "-b", bundle).stdout
    assert "the centre 224x224 of the whole image (resized to short side 256" in report
    calibrated = tmp_path / "calibrated.glass"
    call("glass-calibrate", tmp_path, labelled, "-b", bundle, "-o", calibrated)
    manifest = Bundle.open(calibrated).manifest
    assert manifest.scores is not None
    assert manifest.stopping is None


@pytest.mark.slow
def test_a_few_images_suffice_for_the_gate(shared, photos, tmp_path):
    """One is held out of so few, and is judged in eight positions."""
    bundle = exported({"netC": files.npr()}, "npr", shared)
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(6):
        image = Image.open(photos[0]).rotate(7 * number)
        image.save(folder / f"{number}.png")
    options = VariantOptions("int8", split_images(folder, 8), CalibrationOptions())
    (tmp_path / "made").mkdir()
    make_variant(bundle, tmp_path / "made", options)
    assert Bundle.open(tmp_path / "made").manifest.comparison.images == 8


def test_small_images_in_the_middle_of_zeros_are_suitable(shared, tmp_path, calibration_images):
    bundle = exported(files.cnnspot(), "centred", shared, preset="centre-224")
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    views = trial_views(bundle, [noise, noise[:40]])
    assert views["global"].shape == (2, 224, 224, 3)


def test_an_evaluation_with_a_number_of_crops_is_refused(shared, tmp_path, photos):
    bundle = exported(files.cnnspot(), "centred", shared, preset="centre-224")
    done = call("glass-eval", tmp_path, photos[0].parent, "-b", bundle.path, "--crops", 4)
    assert "chooses its views by a rule of its own" in refusal(done)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["commfor", "cnnspot"])
def test_full_size_networks_are_those_of_timm_and_torchvision(name, shared, photos):
    state = random_detectors()[name]
    found = Detector(exported({"model": state}, f"full-{name}", shared)).detect(photos[:2])
    if name == "commfor":
        network = timm.create_model("vit_small_patch16_384", num_classes=1)
        state = {key.removeprefix("vit."): tensor for key, tensor in state.items()}
        view = v2.Compose([v2.Resize(440), v2.CenterCrop(384)])
    else:
        network, view = resnet50(num_classes=1), v2.CenterCrop(224)
    network.load_state_dict(state)
    views = torch.stack([normalised(view(Image.open(path))) for path in photos[:2]])
    with torch.no_grad():
        expected = network.eval()(views)[:, 0].numpy()
    assert margins(found) == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["cnnspot", "community_forensics", "ferretnet", "npr"])
def test_tensorrt_rtx_builds_one_view_families(family, shared, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    bundle = exported({"model": getattr(files, family)()}, f"build-{family}", shared)
    options = ("--library", "tensorrt-rtx", "--engine-dir", tmp_path)
    assert "| global " in call("glass-build", tmp_path, bundle.path, *options).stdout


# --- a fixed number of views ------------------------------------------------------------------


class Mean(nn.Module):
    def forward(self, logits):
        return logits.mean(dim=1)


def test_ten_crops_and_the_mean_of_their_logits(shared, photos, tmp_path, monkeypatch):
    """A graph of one node is all that an average takes."""
    torch.manual_seed(4)
    network = nn.Sequential(nn.Conv2d(3, 4, 5, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(1))
    network.eval()(torch.zeros(1, 3, 32, 32))
    checkpoint = tmp_path / "cnnspot.pth"
    torch.save(files.cnnspot(), checkpoint)

    def ten(*arguments):
        loaded = original(*arguments)
        views = {"crops": StreamViews(32, "uint8", places=Ten())}
        detector = Network(
            "ten", {"crops": TwoLogits(network).eval()}, Mean(), loaded.detector.classes
        )
        return replace(loaded, detector=detector, preset=replace(loaded.preset, views=views))

    original = exporter.load_detector
    monkeypatch.setattr(exporter, "load_detector", ten)
    bundle = export_bundle(checkpoint, tmp_path / "ten.glass", ExportOptions())
    found = Detector(bundle).detect(photos[:3])
    for path, verdict in zip(photos, found, strict=False):
        crops = TF.ten_crop(Image.open(path), [32, 32])
        views = torch.stack([normalised(crop) for crop in crops])
        with torch.no_grad():
            expected = float(network(views).mean())
        assert margins([verdict])[0] == pytest.approx(expected, abs=1e-3)
        assert verdict.views == {"crops": 10}
        assert {crop.attention for crop in verdict.crops} == {None}
    influence = Detector(bundle, DetectorOptions(influence=True)).detect(photos[0])[0]
    crops = TF.ten_crop(Image.open(photos[0]), [32, 32])
    with torch.no_grad():
        each = network(torch.stack([normalised(crop) for crop in crops]))[:, 0].double()
    without = (each.sum() - each) / 9
    expected = each.mean().sigmoid() - without.sigmoid()
    assert [crop.influence for crop in influence.crops] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ImageError, match="smaller than its 10 views"):
        Detector(bundle).detect(photos[3])


def normalised(image: Image.Image | np.ndarray) -> torch.Tensor:
    return TF.normalize(TF.to_dtype(TF.to_image(image), torch.float32, scale=True), MEAN, STD)


# --- as many views as an image asks for -------------------------------------------------------


@cache
def spai() -> Network:
    return load("spai", source(test_spai.STATE))[0]


@pytest.fixture(scope="module")
def tiled(shared) -> Bundle:
    return exported({"model": test_spai.STATE, "config": Namespace(tiles=4)}, "spai", shared)


def tiles_of(path: Path, side: int = test_spai.SIDE) -> np.ndarray:
    """All whole tiles of an image, or the five of an image with fewer than four."""
    rgb = np.asarray(Image.open(path))
    pad = [max(0, side - length) for length in rgb.shape[:2]]
    rgb = np.pad(rgb, [*((p // 2, p - p // 2) for p in pad), (0, 0)], "reflect")
    rows, columns = (length // side for length in rgb.shape[:2])
    if rows * columns < 4:
        return np.stack([np.asarray(crop) for crop in TF.five_crop(Image.fromarray(rgb), [side])])
    cut = rgb[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
    return cut.swapaxes(1, 2).reshape(-1, side, side, 3)


@torch.no_grad()
def spai_says(path: Path) -> tuple[np.ndarray, np.ndarray]:
    views = torch.from_numpy(tiles_of(path)).permute(0, 3, 1, 2).float() / 255
    logits, attention = spai().aggregator(spai().streams["tiles"](views)[None])
    return logits[0].numpy(), attention[0].numpy()


@pytest.mark.parametrize("engine", ENGINES)
def test_images_of_any_size_are_judged_by_all_their_tiles(tiled, photos, engine):
    found = Detector(tiled, DetectorOptions(engine=engine, workers=2)).detect(photos)
    for path, verdict in zip(photos, found, strict=True):
        logits, attention = spai_says(path)
        assert [*verdict.logits.values()] == pytest.approx(logits, abs=1e-3)
        assert [crop.attention for crop in verdict.crops] == pytest.approx(attention, abs=1e-4)
        assert verdict.views == {"tiles": len(tiles_of(path))}
    assert len({len(verdict.crops) for verdict in found}) > 2


def test_the_influence_of_a_tile_is_what_the_others_would_say(tiled, photos):
    (plain,) = Detector(tiled).detect(photos[1])
    (found,) = Detector(tiled, DetectorOptions(influence=True)).detect(photos[1])
    assert found.logits == plain.logits
    views = torch.from_numpy(tiles_of(photos[1])).permute(0, 3, 1, 2).float() / 255
    fake = list(found.logits).index("fake")
    with torch.no_grad():
        features = spai().streams["tiles"](views)
        for left_out, crop in enumerate(found.crops):
            others = torch.cat([features[:left_out], features[left_out + 1 :]])
            without = spai().aggregator(others[None])[0][0].softmax(0)[fake]
            assert crop.influence == pytest.approx(found.score - float(without), abs=1e-4)


def test_neighbours_do_not_matter(tiled, photos):
    detector = Detector(tiled)
    together, alone = detector.detect(photos), [detector.detect(path)[0] for path in photos]
    assert margins(together) == pytest.approx(margins(alone), abs=1e-5)


# --- views that another stream places ---------------------------------------------------------


def peaks(scores: np.ndarray) -> list[tuple[int, int]]:
    """Take the first largest three times, each time erasing whatever peaks as high nearby."""
    found, scores = [], torch.from_numpy(scores.copy())
    for _ in range(3):
        found.append(divmod(int(scores.argmax()), len(scores)))
        highest = scores[found[-1]]
        near = F.max_pool2d(scores[None], 3, 1, 1)[0]
        scores = scores * (near != highest)
    return found


def boxes(height: int, width: int, maps: list[np.ndarray]) -> list[tuple[int, int, int, int]]:
    base, found = min(height, width), []
    for scores, side in zip(maps, (224, 112), strict=True):
        for peak in peaks(scores):
            box = []
            for length, cell in zip((height, width), peak, strict=True):
                middle = (length - base) // 2 + base * (2 * cell + 8 - len(scores)) // 14
                start = max(0, min(max(0, middle - side // 2), length - side))
                box += [start, min(side, length - start)]
            found.append((box[0], box[2], box[1], box[3]))
    return found


@torch.no_grad()
def guided_says(network: Network, path: Path) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    image = Image.open(path)
    view = v2.Compose([v2.Resize(224), v2.CenterCrop(224)])(image)
    overall, *maps = network.streams["global"](normalised(view)[None])
    places = boxes(image.height, image.width, [each[0].numpy() for each in maps])
    crops = [image.crop((left, top, left + w, top + h)) for top, left, h, w in places]
    views = [
        F.interpolate(normalised(crop)[None], (224, 224), mode="bilinear", align_corners=True)
        for crop in crops
    ]
    local = network.streams["local"](torch.cat(views))
    return network.aggregator(overall, local[None])[0].numpy(), places


@pytest.fixture(scope="module", params=["fusing", slow("glff")])
def guided(request, shared) -> tuple[Network, Bundle]:
    state = test_fusing.STATES[request.param]()
    return test_fusing.detector(request.param), exported({"model": state}, request.param, shared)


@pytest.mark.parametrize("engine", slow_but(["onnxruntime"], ENGINES))
def test_one_stream_places_the_views_of_another(guided, photos, engine):
    network, bundle = guided
    found = Detector(bundle, DetectorOptions(engine=engine)).detect(photos)
    for path, verdict in zip(photos, found, strict=True):
        logits, places = guided_says(network, path)
        assert [(c.top, c.left, c.height, c.width) for c in verdict.crops] == places
        assert [*verdict.logits.values()] == pytest.approx(logits, abs=1e-3)
        assert verdict.views == {"global": 1, "local": 6}


@pytest.mark.slow
def test_the_gate_counts_views_that_lie_elsewhere(guided, tmp_path):
    _, bundle = guided
    make_variant(bundle, tmp_path, VariantOptions("fp16", None, CalibrationOptions()))
    manifest = Bundle.open(tmp_path).manifest
    assert 0 <= manifest.comparison.moved <= 0.2
    assert manifest.parity.map_error < 1e-4


# --- devices ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_tensorrt_rtx_builds_every_graph(tiled, guided, shared, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    for bundle in (tiled, guided[1], exported({"netC": files.npr()}, "npr", shared)):
        options = ("--library", "tensorrt-rtx", "--engine-dir", tmp_path)
        made = call("glass-build", tmp_path, bundle.path, *options).stdout
        for role in bundle.manifest.roles:
            assert f"| {role} " in made


def test_engines_give_the_score_maps_of_a_stream_that_guides(guided, photos):
    network, bundle = guided
    engine = open_engine(bundle, "onnxruntime", EngineOptions("cpu"))
    view = v2.Compose([v2.Resize(224), v2.CenterCrop(224)])(Image.open(photos[0]))
    features, *maps = engine.outputs("global", np.asarray(view)[None])
    with torch.no_grad():
        expected = network.streams["global"](normalised(view)[None])
    for ours, theirs in zip((features, *maps), expected, strict=True):
        assert ours == pytest.approx(theirs.numpy(), rel=1e-3, abs=1e-3)
