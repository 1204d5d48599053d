"""Whose images calibrate: divided by content, looked at, and their ranges kept with care."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from glass_edge.calibration.errors import CalibrationError
from glass_edge.calibration.images import ENOUGH, ImageSets, split_images
from glass_edge.calibration.int8.layers import find_layers
from glass_edge.calibration.int8.ranges import RangesFile, collect_ranges
from glass_edge.calibration.int8.search import Int8Search
from glass_edge.calibration.judging.trial import BACKBONES
from glass_edge.calibration.options import CalibrationOptions
from glass_edge.runtime.images.decode import read_header
from glass_edge.runtime.images.encoded import DecodeOptions
from glass_edge.runtime.judging import view_maker
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glass_edge import Bundle, InputError


def fill(folder: Path, count: int, make) -> Path:
    draw = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(make(draw)).save(folder / f"{number}.png")
    return folder


def noise(draw: np.random.Generator) -> np.ndarray:
    return draw.integers(0, 256, (240, 260, 3), np.uint8)


def ranges_of(bundle: Bundle, sets: ImageSets) -> RangesFile:
    """The local graph's ranges, and what is to be known of the images."""
    backbone = bundle.manifest.backbone
    layers = {
        role: find_layers(onnx.load(bundle.graph_path(role)).graph, backbone) for role in BACKBONES
    }
    return collect_ranges(bundle, layers, sets)["local"]


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


class TestSuitability:
    def search(self, bundle, folder: Path) -> Int8Search:
        return Int8Search(bundle, split_images(folder, 100), CalibrationOptions(method="minmax"))

    @pytest.mark.parametrize(
        ("make", "sentence"),
        [
            (lambda draw: np.full((240, 260, 3), draw.integers(256), np.uint8), "of one colour"),
            (lambda draw: np.where(noise(draw) > 127, 255, 0).astype(np.uint8), "black or white"),
        ],
    )
    def test_images_that_show_nothing_are_refused(self, make, sentence, vit_bundle, tmp_path):
        with pytest.raises(CalibrationError, match=sentence):
            self.search(vit_bundle, fill(tmp_path, 10, make))

    def test_grey_images_are_a_note(self, vit_bundle, tmp_path):
        grey = fill(tmp_path, 8, lambda draw: np.repeat(noise(draw)[..., :1], 3, axis=2))
        assert any(
            "all calibration images are grey" in n for n in self.search(vit_bundle, grey).notes
        )

    @pytest.mark.parametrize("size", [(64, 64), (64, 400)])
    def test_small_images_are_a_note_and_not_called_black(self, size, vit_bundle, tmp_path):
        folder = fill(tmp_path, 8, lambda draw: draw.integers(0, 256, (*size, 3), np.uint8))
        notes = ranges_of(vit_bundle, split_images(folder, 100)).notes
        assert any(
            "7 of 7 calibration images are smaller than a crop of 224x224" in note for note in notes
        )

    def test_small_images_may_be_saturated_all_the_same(self, vit_bundle, tmp_path):
        def sketch(draw: np.random.Generator) -> np.ndarray:
            return np.where(draw.random((64, 64, 1)) > 0.5, 255, 0).repeat(3, 2).astype(np.uint8)

        with pytest.raises(CalibrationError, match="black or white only"):
            self.search(vit_bundle, fill(tmp_path, 10, sketch))

    def test_images_that_cannot_be_read(self, vit_bundle, tmp_path):
        for number in range(6):
            (tmp_path / f"{number}.jpg").write_bytes(b"no image" + bytes([number]))
        with pytest.raises(CalibrationError, match="none of the calibration images can be read"):
            self.search(vit_bundle, tmp_path)

    def test_some_that_cannot_be_read_are_a_note(self, vit_bundle, tmp_path):
        fill(tmp_path, 12, noise)
        for number in range(4):
            (tmp_path / f"bad{number}.jpg").write_bytes(b"no image" + bytes([number]))
        notes = ranges_of(vit_bundle, split_images(tmp_path, 100)).notes
        assert any("could not be read" in note for note in notes)


class TestCache:
    @pytest.fixture
    def cache(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.setenv("GLASS_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache" / "calibration"

    def ranges(self, bundle, folder: Path) -> RangesFile:
        return ranges_of(bundle, split_images(folder, 8))

    def test_it_is_readable_and_says_what_it_is_of(self, cache, vit_bundle, calibration_images):
        self.ranges(vit_bundle, calibration_images)
        files = [json.loads(path.read_bytes()) for path in cache.iterdir()]
        assert len(files) == len(BACKBONES)
        for file in files:
            assert file["data"] == split_images(calibration_images, 8).digest
            assert set(file["ranges"]) == {"minmax", "percentile", "entropy"}
            assert all(value > 0 for value in file["ranges"]["minmax"].values())
        layers = find_layers(
            onnx.load(vit_bundle.graph_path("local")).graph, vit_bundle.manifest.backbone
        )
        names = {name for layer in layers for name in layer.inputs}
        assert names in [set(file["ranges"]["minmax"]) for file in files]

    def test_it_is_used_again_for_the_same_graph_and_images(
        self, cache, vit_bundle, calibration_images
    ):
        self.ranges(vit_bundle, calibration_images)
        written = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
        self.ranges(vit_bundle, calibration_images)
        assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == written

    def test_other_images_or_graphs_do_not_use_it(
        self, cache, vit_bundle, export_family, calibration_images, tmp_path
    ):
        self.ranges(vit_bundle, calibration_images)
        (tmp_path / "others").mkdir()
        self.ranges(vit_bundle, fill(tmp_path / "others", 8, noise))
        self.ranges(export_family("convnext"), calibration_images)
        assert len(list(cache.iterdir())) == 3 * len(BACKBONES)

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
        before = ranges_of(vit_bundle, sets)
        unreadable = len(sets.calibration) - before.images
        assert f"{unreadable} calibration images could not be read." in before.notes

        def decodable(content: bytes, options: DecodeOptions) -> object:
            return read_header(pixels if content.startswith(b"no image") else content, options)

        pixels = (images / "0.png").read_bytes()
        monkeypatch.setattr(view_maker, "read_header", decodable)
        after = ranges_of(vit_bundle, sets)
        assert after.images == len(sets.calibration)
        assert not any("could not be read" in note for note in after.notes)

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
        assert first["ranges"] != second["ranges"]


def test_search_keeps_the_worst_layers_until_verdicts_hold(
    export_family, calibration_images, monkeypatch
):
    """Asked for more than INT8 can give, it keeps layers, the most sensitive first."""
    from glass_edge.calibration import int8

    bundle = export_family("vit")
    sets = split_images(calibration_images, 8)
    search = Int8Search(bundle, sets, CalibrationOptions(method="minmax"))
    monkeypatch.setattr(int8, "CHANGE_AIMED_AT", 1e-12)
    ranked = search.sensitivity()
    found = search.search(budget=0.25)
    kept = [(role, node) for role, nodes in found.kept.items() for node in nodes]
    most = int(0.25 * len(ranked))
    assert len(kept) == most
    assert set(kept) == {(error.role, error.layer.node) for error in ranked[:most]}
