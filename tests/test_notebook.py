"""Records in a notebook: a picture with its crops where they are seen, and text that stays text."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from glass_edge.runtime.finding.files import image_file
from glass_edge.runtime.images.thumbnail import Box, upright_box, upright_size
from glass_edge.runtime.results import notebook
from glass_edge.runtime.results.records import ErrorInfo
from PIL import Image, ImageOps
from test_records import FAILURE, VERDICT

from glass_edge import Crop, Failure, Verdict

HOSTILE = [
    "<script>alert(1)</script>.jpg",
    '"><img src=x onerror=alert(1)>.jpg',
    "</code></table><svg onload=alert(1)>.jpg",
    "a&amp;b.jpg",
    "'--><!--.jpg",
]
VOID = {"rect", "image"}
ELEMENTS = {
    *("div", "svg", "title", "image", "g", "rect", "text"),
    *("table", "tr", "th", "td", "b", "p", "bdi", "code"),
}
ORIENTATIONS = range(1, 9)
CROPS = (
    Crop(top=0, left=0, height=100, width=200, attention=0.75, influence=-0.125),
    Crop(top=300, left=500, height=100, width=100, attention=0.25),
)


class Page(HTMLParser):
    """What a browser finds in a piece of HTML: elements, their attributes, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        assert tag in ELEMENTS, tag
        assert not any(name.startswith("on") for name, _ in attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def handle_comment(self, data):
        raise AssertionError(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def page(record: Verdict | Failure) -> Page:
    return Page(record._repr_html_())


def picture(shown: Page) -> Image.Image:
    (image,) = shown.all("image")
    kind, _, data = image["href"].partition(";base64,")
    assert kind == "data:image/webp"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def edges(shown: Page) -> list[dict[str, float]]:
    """The bright line around each crop."""
    return [
        {name: float(each[name]) for name in ("x", "y", "width", "height", "stroke-width")}
        for each in shown.all("rect")
        if each["fill"] == "none"
    ]


@pytest.fixture
def judged(tmp_path):
    """Saves an image, and returns the verdict on it."""

    def make(image: Image.Image, crops=CROPS, name="a.jpg", orientation=1) -> Verdict:
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / name
        image.save(path, exif=exif)
        return msgspec.structs.replace(
            VERDICT, path=str(path), width=image.width, height=image.height, crops=crops,
            file=image_file(path),
        )  # fmt: skip

    return make


@pytest.fixture
def shown(judged) -> Page:
    return page(judged(Image.new("RGB", (768, 384), "teal")))


class TestAVerdict:
    def test_the_picture_is_the_file(self, shown):
        found = picture(shown)
        assert found.size == (384, 192)
        assert found.convert("RGB").getpixel((9, 9)) == pytest.approx((0, 128, 128), abs=6)

    def test_crops_are_boxes_in_the_picture(self, shown):
        (svg,) = shown.all("svg")
        assert svg["viewbox"] == "0 0 384.00 192.00"
        first, second = edges(shown)
        assert first | {"stroke-width": 0} == {
            "x": 0, "y": 0, "width": 100, "height": 50, "stroke-width": 0,
        }  # fmt: skip
        assert (second["x"], second["y"], second["width"]) == (250, 150, 50)

    def test_crops_are_numbered_as_in_the_record(self, shown):
        assert "crop 1; attention 0.750; influence on P(fake) -0.125" in shown.texts
        assert "crop 2; attention 0.250" in shown.texts
        assert [text for text in shown.texts if text.isdigit()] == ["1", "2"]

    @pytest.mark.parametrize(("attention", "pixels"), [(0, 1), (0.5, 2.5), (1, 4), (None, 1)])
    def test_edges_are_as_thick_as_attention_is_high(self, attention, pixels, judged):
        crops = (Crop(0, 0, 20, 20, attention),)
        (edge,) = edges(page(judged(Image.new("RGB", (40, 40)), crops)))
        assert edge["stroke-width"] == pixels

    def test_small_images_are_not_enlarged(self, judged):
        shown = page(judged(Image.new("RGB", (40, 30)), (Crop(3, 4, 5, 6, None),)))
        assert picture(shown).size == (40, 30)
        (edge,) = edges(shown)
        assert (edge["x"], edge["y"], edge["width"], edge["height"]) == (4, 3, 6, 5)

    def test_the_table_says_what_was_found(self, shown):
        for text in ("fake", "0.7500", "768x384"):
            assert text in shown.texts
        assert any(text.endswith("a.jpg") for text in shown.texts)
        assert "threshold" not in shown.text

    def test_doubts_are_said(self):
        doubtful = msgspec.structs.replace(VERDICT, settled=False, damaged=True)
        assert "(not settled) (a part of the image is missing)" in page(doubtful).text
        assert "settled" not in page(msgspec.structs.replace(VERDICT, settled=True)).text

    def test_relative_paths_begin_at_the_working_folder(self, judged, tmp_path, monkeypatch):
        verdict = msgspec.structs.replace(judged(Image.new("RGB", (40, 30))), path="a.jpg")
        assert "not found from the working folder" in page(verdict).text
        monkeypatch.chdir(tmp_path)
        assert picture(page(verdict)).size == (40, 30)

    def test_a_real_verdict_is_shown(self, vit_bundle, photographs):
        from glass_edge import Detector

        (verdict,) = Detector(vit_bundle).detect(photographs[0])
        shown = page(verdict)
        assert picture(shown)
        assert len(edges(shown)) == len(verdict.crops) > 0


class TestWithoutAPicture:
    def reason(self, verdict: Verdict) -> str:
        shown = page(verdict)
        assert shown.all("svg") == []
        assert {"fake", "0.7500"} <= set(shown.texts)
        return shown.texts[-1].removeprefix("There is no picture: ")

    def test_of_pixels(self):
        nameless = msgspec.structs.replace(VERDICT, path=None, file=None)
        assert self.reason(nameless) == "the image was given as bytes or pixels."

    def test_the_file_is_gone(self, judged):
        verdict = judged(Image.new("RGB", (40, 30)))
        Path(verdict.path).unlink()
        assert self.reason(verdict) == "its file was not found."

    def test_the_file_has_changed(self, judged):
        verdict = judged(Image.new("RGB", (40, 30)))
        os.utime(verdict.path, (1, 1))
        assert self.reason(verdict) == "its file has changed since it was judged."

    def test_the_file_is_no_image(self, judged, tmp_path):
        verdict = judged(Image.new("RGB", (40, 30)))
        path = tmp_path / "b.jpg"
        path.write_bytes(b"<script>")
        found = msgspec.structs.replace(verdict, path=str(path), file=image_file(path))
        assert self.reason(found).startswith("its file cannot be shown: ")

    def test_a_folder_is_left_alone(self, judged, tmp_path):
        verdict = judged(Image.new("RGB", (40, 30)))
        found = msgspec.structs.replace(verdict, path=str(tmp_path), file=image_file(tmp_path))
        assert self.reason(found) == "its file cannot be shown: it is a folder, not an image."

    @pytest.mark.parametrize("error", [MemoryError(), RuntimeError("<b>"), OSError(5, "gone")])
    def test_whatever_fails(self, error, judged, monkeypatch):
        def fail(*_):
            raise error

        verdict = judged(Image.new("RGB", (40, 30)))
        monkeypatch.setattr(notebook, "read_claims", fail)
        assert self.reason(verdict).startswith("its file cannot be shown")

    @pytest.mark.parametrize("broken", [{"score": None}, {"path": 3}, {"width": "<i>"}])
    def test_a_record_that_makes_no_sense(self, broken):
        html = msgspec.structs.replace(VERDICT, **broken)._repr_html_()
        assert "demo.glass" in html or "images/a, b.jpg" in html
        assert "<i>" not in html


@pytest.mark.parametrize("name", HOSTILE)
class TestHostileNames:
    def test_a_path_is_text(self, name):
        verdict = msgspec.structs.replace(VERDICT, path=name, verdict=name)
        assert page(verdict).texts.count(name) == 2

    def test_a_failure_is_text(self, name):
        shown = page(Failure(path=name, error=ErrorInfo("ImageError", name)))
        assert shown.text == f"{name}  could not be judged: {name}"

    def test_a_picture_is_no_way_around(self, name, judged, tmp_path):
        if "/" in name:
            pytest.skip("no file can have such a name")
        verdict = judged(Image.new("RGB", (40, 30)))
        path = tmp_path / name
        Path(verdict.path).rename(path)
        shown = page(msgspec.structs.replace(verdict, path=str(path)))
        assert picture(shown)
        assert str(path) in shown.texts


SIGNS = {"\u202e": "\\u202e", "\n": "\\n", "\x1b": "\\x1b", "\0": "\\x00", "\ud800": "\\ud800"}


@pytest.mark.parametrize(("sign", "shown"), SIGNS.items())
def test_signs_that_cannot_be_seen_are_shown(sign, shown):
    for record in (VERDICT, FAILURE):
        html = msgspec.structs.replace(record, path=f"a{sign}gpj")._repr_html_()
        assert f"a{shown}gpj" in html
        assert html.isprintable()


def test_a_failure_is_a_sentence():
    assert page(FAILURE).text == "bad.jpg  could not be judged: the file is empty."
    nameless = msgspec.structs.replace(FAILURE, path=None)
    assert page(nameless).text == "The image could not be judged: the file is empty."


def marked(box: Box) -> Image.Image:
    """An image of 12 x 8 pixels, of which those of a box are white."""
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[box.top : box.top + box.height, box.left : box.left + box.width] = 255
    return Image.fromarray(pixels)


class TestOrientation:
    """Pillow turns pixels as EXIF says; boxes must go where the pixels go."""

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    @pytest.mark.parametrize("box", [Box(1, 2, 4, 3), Box(0, 0, 12, 8), Box(11, 7, 1, 1)])
    def test_a_box_goes_where_its_pixels_go(self, orientation, box):
        image = marked(box)
        image.getexif()[0x0112] = orientation
        turned = ImageOps.exif_transpose(image)
        left, top, right, bottom = turned.getbbox()
        assert upright_size(12, 8, orientation) == turned.size
        found = upright_box(box, 12, 8, orientation)
        assert found == Box(left, top, right - left, bottom - top)

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_a_crop_lies_on_its_pixels_in_the_picture(self, orientation, judged):
        crop = Crop(top=32, left=16, height=96, width=64, attention=None)
        image = marked(Box(1, 2, 4, 6)).resize((192, 128), Image.Resampling.NEAREST)
        shown = page(judged(image, (crop,), "a.png", orientation))
        white = picture(shown).convert("L").point(lambda grey: 255 * (grey > 127))
        left, top, right, bottom = white.getbbox()
        (edge,) = edges(shown)
        place = (edge["x"], edge["y"], edge["x"] + edge["width"], edge["y"] + edge["height"])
        assert place == pytest.approx((left, top, right, bottom), abs=1)


def test_what_shows_records_is_loaded_when_it_is_needed():
    code = "import sys, glass_edge; glass_edge.Verdict; print({'cv2', 'PIL'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_ipython_shows_it():
    formatters = pytest.importorskip("IPython.core.formatters")
    shown, _ = formatters.DisplayFormatter().format(VERDICT)
    assert shown["text/html"] == VERDICT._repr_html_()
