"""Whose images calibrate: divided by content, looked at, and their ranges kept with care."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from glass_edge.calibration.errors import CalibrationError
from glass_edge.calibration.floats.search import lower
from glass_edge.calibration.images import ENOUGH, ImageSets, split_images
from glass_edge.calibration.int8.grid import SIGNED_STEPS, UNSIGNED_STEPS
from glass_edge.calibration.int8.histogram import Histogram
from glass_edge.calibration.int8.layers import find_layers, form_of
from glass_edge.calibration.int8.observe import CROPS, CalibrationViews, Observer, calibration_views
from glass_edge.calibration.int8.ranges import RangesFile, activations_of, collect_ranges
from glass_edge.calibration.int8.signs import never_negative
from glass_edge.calibration.judging.views import trial_size
from glass_edge.runtime.bundle.manifest import Rest
from glass_edge.runtime.bundle.streams import Role
from glass_edge.runtime.images.decode import read_header
from glass_edge.runtime.images.encoded import DecodeOptions
from glass_edge.runtime.machine.progress import silent
from glass_edge.runtime.streaming import view_maker
from glass_edge.runtime.streaming.sharing import PipelineOptions
from glass_edge.runtime.streaming.stream import stream_views
from glass_edge.runtime.views.batch import Sampling
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import BACKBONES
from PIL import Image

from glass_edge import Bundle, InputError


def fill(folder: Path, count: int, make) -> Path:
    draw = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(make(draw)).save(folder / f"{number}.png")
    return folder


def noise(draw: np.random.Generator) -> np.ndarray:
    return draw.integers(0, 256, (240, 260, 3), np.uint8)


def views_of(bundle: Bundle, folder: Path) -> CalibrationViews:
    return calibration_views(bundle, split_images(folder, 100), silent)


def activations(bundle: Bundle, role: Role, rest: Rest = "fp32") -> dict[str, bool]:
    """Name what INT8 rounds in a graph, and whether without a sign."""
    graph = onnx.load(bundle.graph_path(role)).graph
    form = form_of(rest)
    unsigned = never_negative(graph) if form.unsigned else ()
    return activations_of(find_layers(graph, bundle.manifest.backbone, form), unsigned)


def ranges_of(bundle: Bundle, sets: ImageSets, rest: Rest = "fp32") -> dict[Role, RangesFile]:
    views = calibration_views(bundle, sets, silent)
    return {
        role: collect_ranges(
            bundle,
            role,
            onnx.load(bundle.graph_path(role)),
            activations(bundle, role, rest),
            views,
            sets,
        )
        for role in BACKBONES
    }


class TestSplit:
    def test_nothing_is_on_both_sides(self, tmp_path):
        sets = split_images(fill(tmp_path, 20, noise), 100)
        assert len(sets.held_out) == 4
        assert len(sets.calibration) == 16
        assert not set(sets.held_out) & set(sets.calibration)

    def test_names_do_not_matter_content_does(self, tmp_path):
        (tmp_path / "a").mkdir()
        first = split_images(fill(tmp_path / "a", 12, noise), 100)
        (tmp_path / "b").mkdir()
        for number, path in enumerate(sorted((tmp_path / "a").iterdir(), reverse=True)):
            shutil.copy(path, tmp_path / "b" / f"renamed{number}.png")
        second = split_images(tmp_path / "b", 100)
        assert first.digest == second.digest
        assert [p.read_bytes() for p in first.held_out] == [p.read_bytes() for p in second.held_out]

    def test_copies_count_once(self, tmp_path):
        fill(tmp_path, 6, noise)
        for path in list(tmp_path.iterdir()):
            shutil.copy(path, tmp_path / f"copy-{path.name}")
        sets = split_images(tmp_path, 100)
        assert len(sets.calibration) + len(sets.held_out) == 6

    @pytest.mark.parametrize("limit", [1, 4, 10])
    def test_no_more_than_asked_for(self, tmp_path, limit):
        sets = split_images(fill(tmp_path, 40, noise), limit)
        assert len(sets.calibration) == limit
        assert sets.held_out

    @settings(max_examples=40)
    @given(fakes=st.integers(5, 70), reals=st.integers(5, 70), limit=st.integers(4, 120))
    def test_each_folder_has_its_share(self, fakes, reals, limit):
        """Files of a class lie together in path order: what is left out must not be one of them."""
        with tempfile.TemporaryDirectory() as folder:
            for name, count in (("fake", fakes), ("real", reals)):
                (Path(folder) / name).mkdir()
                for number in range(count):
                    (Path(folder) / name / f"{number:03}.png").write_text(f"{name} {number}")
            sets = split_images(Path(folder), limit)
        taken = [path.parent.name for path in (*sets.calibration, *sets.held_out)]
        share = fakes / (fakes + reals)
        assert len(sets.calibration) >= min(limit, (fakes + reals) * 4 // 5)
        assert abs(taken.count("fake") - share * len(taken)) < 2

    def test_too_few(self, tmp_path):
        with pytest.raises(CalibrationError, match="holds 4 different images, and at least 5"):
            split_images(fill(tmp_path, 4, noise), 100)

    def test_few_is_a_note(self, tmp_path):
        (note,) = split_images(fill(tmp_path, 10, noise), 100).notes()
        assert "only 8 images" in note
        assert str(ENOUGH) in note

    def test_no_folder(self, tmp_path):
        with pytest.raises(InputError):
            split_images(tmp_path / "missing", 100)


class TestViews:
    def test_each_image_is_decoded_once_for_all_that_looks_at_it(
        self, vit_bundle, calibration_images
    ):
        """Ranges take crops of the first draw; graphs are tried on others of the first images."""
        files = sorted(calibration_images.iterdir())
        sets = ImageSets((*files, *files[::-1], *files[::2]), (), "")
        views = calibration_views(vit_bundle, sets, silent)
        spec = vit_bundle.manifest.views
        tried, draws = trial_size(spec, len(sets.calibration))
        assert 1 < tried < len(sets.calibration)
        assert draws > 1
        for seed in range(1 + draws):
            wanted = sets.calibration if seed == 0 else sets.calibration[:tried]
            (found,) = stream_views(wanted, Sampling(spec, seed), PipelineOptions(len(wanted)))
            if seed == 0:
                np.testing.assert_array_equal(views.views["global"], found.views["global"])
                few = found.views["local"][:, :CROPS]
                np.testing.assert_array_equal(views.views["local"], few.reshape(-1, *few.shape[2:]))
            else:
                drawn = views.drawn["local"][:, seed - 1]
                np.testing.assert_array_equal(views.drawn["global"], found.views["global"])
                np.testing.assert_array_equal(drawn, found.views["local"])

    def test_fewer_are_the_first_crop_of_each_image_and_the_first_images(
        self, vit_bundle, calibration_images
    ):
        views = calibration_views(vit_bundle, split_images(calibration_images, 8), silent)
        fewer = views.fewer()
        np.testing.assert_array_equal(fewer.views["global"], views.views["global"])
        np.testing.assert_array_equal(fewer.views["local"], views.views["local"][::CROPS])
        assert (fewer.images, len(fewer.views["local"])) == (views.images, views.images)
        for stream, drawn in views.drawn.items():
            first = drawn[: math.ceil(0.3 * len(drawn))]
            np.testing.assert_array_equal(fewer.drawn[stream], first)

    def test_if_none_can_be_read_of_those_to_try_on_it_says_so(self, vit_bundle, tmp_path):
        spec = vit_bundle.manifest.views
        good = fill(tmp_path, 3, noise)
        tried, _ = trial_size(spec, 1000)
        broken = tmp_path / "broken.png"
        broken.write_bytes(b"\x89PNG")
        sets = ImageSets((*[broken] * tried, *good.glob("[0-9].png")), (), "")
        with pytest.raises(CalibrationError, match=rf"the first {tried} calibration images"):
            calibration_views(vit_bundle, sets, silent)


class TestSuitability:
    @pytest.mark.parametrize(
        ("make", "sentence"),
        [
            (lambda draw: np.full((240, 260, 3), draw.integers(256), np.uint8), "of one colour"),
            (lambda draw: np.where(noise(draw) > 127, 255, 0).astype(np.uint8), "black or white"),
        ],
    )
    def test_images_that_show_nothing_are_refused(self, make, sentence, vit_bundle, tmp_path):
        with pytest.raises(CalibrationError, match=sentence):
            views_of(vit_bundle, fill(tmp_path, 10, make))

    def test_fp16_refuses_images_that_show_nothing_as_int8_does(self, vit_bundle, tmp_path):
        flat = fill(tmp_path, 10, lambda draw: np.full((240, 260, 3), draw.integers(256), np.uint8))
        with pytest.raises(CalibrationError, match="of one colour"):
            lower(vit_bundle, "fp16", split_images(flat, 100))

    def test_grey_images_are_a_note(self, vit_bundle, tmp_path):
        grey = fill(tmp_path, 8, lambda draw: np.repeat(noise(draw)[..., :1], 3, axis=2))
        notes = views_of(vit_bundle, grey).notes
        assert any("all calibration images are grey" in note for note in notes)

    @pytest.mark.parametrize("size", [(64, 64), (64, 400)])
    def test_small_images_are_a_note_and_not_called_black(self, size, vit_bundle, tmp_path):
        folder = fill(tmp_path, 8, lambda draw: draw.integers(0, 256, (*size, 3), np.uint8))
        notes = views_of(vit_bundle, folder).notes
        assert any(
            "7 of 7 calibration images are smaller than a crop of 224x224" in note for note in notes
        )

    def test_small_images_may_be_saturated_all_the_same(self, vit_bundle, tmp_path):
        def sketch(draw: np.random.Generator) -> np.ndarray:
            return np.where(draw.random((64, 64, 1)) > 0.5, 255, 0).repeat(3, 2).astype(np.uint8)

        with pytest.raises(CalibrationError, match="black or white only"):
            views_of(vit_bundle, fill(tmp_path, 10, sketch))

    def test_images_that_cannot_be_read(self, vit_bundle, tmp_path):
        for number in range(6):
            (tmp_path / f"{number}.jpg").write_bytes(b"no image" + bytes([number]))
        with pytest.raises(CalibrationError, match="none of the calibration images can be read"):
            views_of(vit_bundle, tmp_path)

    def test_some_that_cannot_be_read_are_a_note(self, vit_bundle, tmp_path):
        fill(tmp_path, 12, noise)
        for number in range(4):
            (tmp_path / f"bad{number}.jpg").write_bytes(b"no image" + bytes([number]))
        assert any("could not be read" in note for note in views_of(vit_bundle, tmp_path).notes)


def test_views_are_one_overview_and_two_crops_of_each_image(vit_bundle, tmp_path):
    """Made once, and handed to the graphs a few at a time, in order."""
    views = views_of(vit_bundle, fill(tmp_path, 8, noise))
    assert views.images == 7
    overviews, crops = views.of("global"), views.of("local")
    assert (overviews.shape, overviews.dtype) == ((7, 224, 224, 3), np.float32)
    assert (crops.shape, crops.dtype) == ((14, 224, 224, 3), np.uint8)
    for role in BACKBONES:
        batches = list(views.batches(role))
        assert max(map(len, batches)) < views.images
        assert (np.concatenate(batches) == views.of(role)).all()


class TestCache:
    @pytest.fixture
    def cache(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.setenv("GLASS_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache" / "calibration"

    def ranges(self, bundle, folder: Path, rest: Rest = "fp32") -> dict[Role, RangesFile]:
        return ranges_of(bundle, split_images(folder, 8), rest)

    def test_it_is_readable_and_says_what_it_is_of(self, cache, vit_bundle, calibration_images):
        self.ranges(vit_bundle, calibration_images)
        files = [json.loads(path.read_bytes()) for path in cache.iterdir()]
        assert len(files) == len(BACKBONES)
        for file in files:
            assert file["data"] == split_images(calibration_images, 8).digest
            assert all(value > 0 for value in (file["signed"] | file["unsigned"]).values())
        for role in BACKBONES:
            expected = activations(vit_bundle, role)
            signed, unsigned = (
                {name for name, sign in expected.items() if sign == wanted}
                for wanted in (False, True)
            )
            assert unsigned
            assert (signed, unsigned) in [(set(f["signed"]), set(f["unsigned"])) for f in files]

    def test_limits_are_those_that_err_least_over_all_views(
        self, cache, vit_bundle, calibration_images
    ):
        asked = activations(vit_bundle, "local")
        found = self.ranges(vit_bundle, calibration_images)["local"].grids
        views = calibration_views(vit_bundle, split_images(calibration_images, 8), silent)
        seen = Observer(vit_bundle.graph_path("local"), list(asked)).run(views.of("local"))
        assert {name: grid.unsigned for name, grid in found.items()} == asked
        for name, values in seen.items():
            histogram = Histogram()
            histogram.add(values)
            expected = histogram.range(UNSIGNED_STEPS if asked[name] else SIGNED_STEPS)
            assert found[name].limit == pytest.approx(expected, rel=0.01)

    def test_it_is_used_again_for_the_same_graph_and_images(
        self, cache, vit_bundle, calibration_images
    ):
        self.ranges(vit_bundle, calibration_images)
        written = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
        self.ranges(vit_bundle, calibration_images)
        assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == written

    def test_other_images_graphs_or_forms_do_not_use_it(
        self, cache, vit_bundle, export_family, calibration_images, tmp_path
    ):
        self.ranges(vit_bundle, calibration_images)
        (tmp_path / "others").mkdir()
        self.ranges(vit_bundle, fill(tmp_path / "others", 8, noise))
        self.ranges(export_family("convnext"), calibration_images)
        self.ranges(vit_bundle, calibration_images, "fp16")
        assert len(list(cache.iterdir())) == 4 * len(BACKBONES)

    def test_a_damaged_cache_is_made_anew(self, cache, vit_bundle, calibration_images):
        self.ranges(vit_bundle, calibration_images)
        before = {path: path.read_bytes() for path in cache.iterdir()}
        for path in cache.iterdir():
            path.write_bytes(path.read_bytes()[:100])
        self.ranges(vit_bundle, calibration_images)
        assert {path: path.read_bytes() for path in cache.iterdir()} == before

    def test_it_waits_until_every_image_can_be_read(self, cache, vit_bundle, tmp_path, monkeypatch):
        """Whoever installs a decoder must not get ranges, and a note, from before."""
        images = tmp_path / "images"
        images.mkdir()
        fill(images, 12, noise)
        for number in range(4):
            (images / f"bad{number}.jpg").write_bytes(b"no image" + bytes([number]))
        sets = split_images(images, 100)
        views = views_of(vit_bundle, images)
        unreadable = len(sets.calibration) - views.images
        assert f"{unreadable} calibration images could not be read." in views.notes
        before = ranges_of(vit_bundle, sets)
        assert {file.images for file in before.values()} == {views.images}

        def decodable(content: bytes, options: DecodeOptions) -> object:
            return read_header(pixels if content.startswith(b"no image") else content, options)

        pixels = (images / "0.png").read_bytes()
        monkeypatch.setattr(view_maker, "read_header", decodable)
        after = ranges_of(vit_bundle, sets)
        assert {file.images for file in after.values()} == {len(sets.calibration)}
        assert not any("could not be read" in n for n in views_of(vit_bundle, images).notes)

    @pytest.mark.parametrize("place", ["folder", "file"])
    def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(
        self, place, cache, vit_bundle, calibration_images
    ):
        sets = split_images(calibration_images, 8)
        expected = ranges_of(vit_bundle, sets)
        names = [path.name for path in cache.iterdir()]
        shutil.rmtree(cache)
        if place == "folder":
            cache.write_text("in the way of the folder")
        else:
            for name in names:
                (cache / name).mkdir(parents=True)  # in the way of the file
        assert ranges_of(vit_bundle, sets) == expected

    def test_global_views_and_crops_are_never_mixed(self, cache, shared_bundle, tmp_path):
        """With one backbone for both, the two graphs still have ranges of their own."""
        (tmp_path / "images").mkdir()
        self.ranges(shared_bundle, fill(tmp_path / "images", 5, noise))
        first, second = (json.loads(path.read_bytes()) for path in cache.iterdir())
        assert first["signed"].keys() == second["signed"].keys()
        assert first["signed"] != second["signed"]
        assert first["unsigned"] != second["unsigned"]
