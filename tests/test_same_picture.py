"""The picture decides which crops are judged; what else its file holds plays no part."""

from __future__ import annotations

import io
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import call, encoded, launch
from PIL import Image, PngImagePlugin

from glass_edge import Detector, DetectorOptions, Verdict


@pytest.fixture(scope="module")
def picture(photograph: Image.Image) -> Image.Image:
    return photograph.resize((700, 500), Image.Resampling.LANCZOS)


def with_text() -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a photograph of a cat")
    return text


def test_a_comment_does_not_move_the_score(vit_bundle, picture):
    content = encoded(picture, "JPEG", quality=90)
    comments = [
        content[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + content[2:]
        for text in (str(number).encode() for number in range(20))
    ]
    plain, *commented = Detector(vit_bundle).detect([content, *comments])
    assert [verdict.crops for verdict in commented] == [plain.crops] * 20
    assert {verdict.score for verdict in commented} == {plain.score}


def test_the_same_pixels_get_the_same_crops_in_every_format(vit_bundle, picture):
    files = [
        encoded(picture, "PNG"),
        encoded(picture, "PNG", compress_level=0, pnginfo=with_text()),
        encoded(picture, "BMP"),
        encoded(picture, "TIFF", compression="tiff_lzw"),
        encoded(picture, "WEBP", lossless=True),
        encoded(picture, "PPM"),
    ]
    verdicts = Detector(vit_bundle).detect([*files, np.asarray(picture), picture])
    assert len({verdict.crops for verdict in verdicts}) == 1
    assert len({verdict.score for verdict in verdicts}) == 1


def test_another_picture_of_the_same_size_gets_other_crops(vit_bundle, picture):
    brighter = picture.point(lambda value: min(255, value + 1))
    one, other = Detector(vit_bundle).detect([np.asarray(picture), np.asarray(brighter)])
    assert one.seed != other.seed


def test_with_a_secret_key_the_crops_cannot_be_told_from_the_image(vit_bundle, picture):
    content = encoded(picture, "PNG")
    seeds = {}
    for key in ("", "a secret", "another"):
        detector = Detector(vit_bundle, DetectorOptions(seed_key=key))
        one, two = detector.detect([content, content])
        assert one.seed == two.seed == detector.generator_seed(content)
        seeds[key] = one.seed
    assert len(set(seeds.values())) == 3


def records(path: Path) -> list[Verdict]:
    return [msgspec.json.decode(line, type=Verdict) for line in path.read_bytes().splitlines()]


def test_the_key_comes_from_the_environment_and_stands_nowhere(vit_bundle, picture, tmp_path):
    picture.save(tmp_path / "photo.png")
    arguments = ["photo.png", "--bundle", vit_bundle.path, "-o"]
    secret = "not-to-be-found"
    done = launch("glass-run", tmp_path, *arguments, "keyed.jsonl",
                  env=os.environ | {"GLASS_SEED_KEY": secret})  # fmt: skip
    assert done.returncode == 0
    call("glass-run", tmp_path, *arguments, "plain.jsonl")
    (keyed,), (plain,) = records(tmp_path / "keyed.jsonl"), records(tmp_path / "plain.jsonl")
    assert keyed.seed != plain.seed
    assert secret not in (tmp_path / "keyed.jsonl").read_text() + done.stdout + done.stderr
    (again,) = Detector(vit_bundle, DetectorOptions(seed_key=secret)).detect(tmp_path / "photo.png")
    assert again.seed == keyed.seed


def test_a_run_is_not_resumed_with_another_key(vit_bundle, picture, tmp_path):
    picture.save(tmp_path / "photo.png")
    arguments = ["photo.png", "--bundle", vit_bundle.path, "-o", "verdicts.jsonl"]
    call("glass-run", tmp_path, *arguments)
    done = launch("glass-run", tmp_path, *arguments, "--resume",
                  env=os.environ | {"GLASS_SEED_KEY": "another"})  # fmt: skip
    assert done.returncode == 2
    assert "GLASS_SEED_KEY" in done.stderr


# --- pictures that are open already ---------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "LA", "1"])
def test_a_pil_image_is_judged_as_the_array_of_its_pixels(mode, vit_bundle, picture):
    image = picture.convert(mode)
    from_image, from_array = Detector(vit_bundle).detect([image, np.asarray(image.convert("RGB"))])
    assert from_image == from_array


def test_a_pil_image_from_a_file_is_loaded_when_it_is_judged(vit_bundle, picture, tmp_path):
    picture.save(tmp_path / "photo.png")
    with Image.open(tmp_path / "photo.png") as image:
        (one,) = Detector(vit_bundle).detect(image)
    assert one.path is None
    (other,) = Detector(vit_bundle).detect(tmp_path / "photo.png")
    assert (one.crops, one.score) == (other.crops, other.score)


def test_a_damaged_pil_image_is_a_record(vit_bundle, picture, tmp_path):
    content = encoded(picture, "PNG")
    with Image.open(io.BytesIO(content[: len(content) // 2])) as image:
        (record,) = Detector(vit_bundle).stream(image)
    assert record.status == "error"
    assert "truncated or damaged" in record.error.message
