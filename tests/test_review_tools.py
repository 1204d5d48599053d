"""Records for review tools: documents in their formats, with crops where a viewer shows them."""

from __future__ import annotations

import json
from itertools import islice, repeat
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import pytest
from glass_edge.runtime.finding.files import image_file
from glass_edge.runtime.report.review_tools import FORMATS, FileOrientations, Reviewable
from PIL import Image
from test_records import FAILURE, VERDICT

from glass_edge import Crop, Verdict

HOSTILE = [
    "a&d=b.jpg",
    "50%.jpg",
    "a#b?c.jpg",
    "ein Bild ü.jpg",
    "a+b.jpg",
    '"]}.jpg',
    "\n\u202e.jpg",
]
SEVERAL = msgspec.structs.replace(
    VERDICT,
    crops=(
        Crop(top=200, left=100, height=224, width=300, attention=0.75, influence=-0.125),
        Crop(top=0, left=0, height=800, width=1000, attention=0.25),
    ),
)


def upright(verdict: Verdict) -> int:
    return 1


def exported(name: str, *verdicts: Verdict, prefix: str = "", orientation_of=upright):
    return json.loads("".join(FORMATS[name](verdicts, prefix, orientation_of)))


def only_task(verdict: Verdict, **how):
    (task,) = exported("label-studio", verdict, **how)
    return task


def only_sample(verdict: Verdict, **how):
    (sample,) = exported("fiftyone", verdict, **how)["samples"]
    return sample


def rectangles(task) -> list[dict]:
    (prediction,) = task["predictions"]
    return [each for each in prediction["result"] if each["type"] == "rectanglelabels"]


def judged(path: Path, crop: Crop) -> Verdict:
    with Image.open(path) as image:
        size = dict(zip(("width", "height"), image.size, strict=True))
    return msgspec.structs.replace(
        VERDICT, path=str(path), file=image_file(path), crops=(crop,), **size
    )


@pytest.fixture
def turned(tmp_path):
    """Makes an image of 40 x 20 stored pixels, and its verdict, with a crop at its upper left."""

    def make(name: str, orientation: int) -> Verdict:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (40, 20)).save(tmp_path / name, exif=exif)
        return judged(tmp_path / name, Crop(top=2, left=4, height=5, width=8, attention=None))

    return make


class TestLabelStudio:
    def test_a_task_shows_the_image_and_what_is_known_of_it(self):
        assert only_task(VERDICT, prefix="s3://bucket/")["data"] == {
            "image": "s3://bucket/images/a, b.jpg",
            "score": 0.75,
            "verdict": "fake",
            "path": "images/a, b.jpg",
        }

    def test_the_prediction_is_the_verdict(self):
        (prediction,) = only_task(VERDICT)["predictions"]
        assert prediction["model_version"] == VERDICT.bundle
        assert prediction["score"] == VERDICT.score
        choice, *_ = prediction["result"]
        assert choice | {"id": ""} == {
            "id": "",
            "type": "choices",
            "from_name": "verdict",
            "to_name": "image",
            "value": {"choices": ["fake"]},
        }

    def test_crops_are_rectangles_in_percent(self):
        first, second = rectangles(only_task(SEVERAL))
        place = {"rotation": 0, "rectanglelabels": ["crop"]}
        assert first["value"] == {"x": 10, "y": 25, "width": 30, "height": 28} | place
        assert second["value"] == {"x": 0, "y": 0, "width": 100, "height": 100} | place
        assert (first["original_width"], first["original_height"]) == (1000, 800)
        assert first["image_rotation"] == 0
        assert (first["from_name"], first["to_name"]) == ("crops", "image")
        assert (first["score"], second["score"]) == (0.75, 0.25)

    def test_the_whole_image_is_never_more_than_100_percent(self):
        """Label Studio refuses 100.00000000000001."""
        for side in range(1, 3000):
            crops = (Crop(0, 0, side, side, None),)
            verdict = msgspec.structs.replace(VERDICT, width=side, height=side, crops=crops)
            (found,) = rectangles(only_task(verdict))
            assert (found["value"]["width"], found["value"]["height"]) == (100, 100)

    def test_a_crop_without_attention_has_no_score(self):
        crops = (Crop(1, 2, 224, 224, None),)
        (found,) = rectangles(only_task(msgspec.structs.replace(VERDICT, crops=crops)))
        assert "score" not in found

    def test_no_two_results_have_the_same_id(self):
        tasks = exported("label-studio", SEVERAL, SEVERAL)
        ids = [each["id"] for task in tasks for each in task["predictions"][0]["result"]]
        assert len(ids) == len(set(ids)) == 6

    @pytest.mark.parametrize("name", HOSTILE)
    @pytest.mark.parametrize("prefix", ["/data/local-files/?d=", "https://host/files?p=1&d="])
    def test_a_query_leads_to_the_file_whatever_its_name(self, name, prefix):
        task = only_task(msgspec.structs.replace(VERDICT, path=f"deep/{name}"), prefix=prefix)
        address = urlsplit(task["data"]["image"])
        assert parse_qs(address.query)["d"] == [f"deep/{name}"]
        assert address.fragment == ""
        assert task["data"]["path"] == f"deep/{name}"

    @pytest.mark.parametrize("name", HOSTILE)
    def test_an_address_leads_to_the_file_whatever_its_name(self, name):
        verdict = msgspec.structs.replace(VERDICT, path=name)
        address = urlsplit(only_task(verdict, prefix="https://host/a/")["data"]["image"])
        assert unquote(address.path) == f"/a/{name}"
        assert (address.query, address.fragment) == ("", "")

    @pytest.mark.parametrize("prefix", ["", "s3://bucket/", "gs://bucket/"])
    @pytest.mark.parametrize("name", HOSTILE)
    def test_keys_of_a_bucket_are_not_quoted(self, prefix, name):
        verdict = msgspec.structs.replace(VERDICT, path=name)
        assert only_task(verdict, prefix=prefix)["data"]["image"] == prefix + name


class TestFiftyOne:
    def test_a_sample_is_the_verdict(self):
        sample = only_sample(VERDICT, prefix="/photos/")
        assert sample["filepath"] == "/photos/images/a, b.jpg"
        assert sample["metadata"] == {
            "_cls": "ImageMetadata", "size_bytes": 1234, "width": 1000, "height": 800,
        }  # fmt: skip
        assert sample["verdict"] == {
            "_cls": "Classification", "label": "fake", "confidence": 0.75,
        }  # fmt: skip
        assert (sample["score"], sample["bundle"]) == (0.75, VERDICT.bundle)

    def test_confidence_is_that_of_the_verdict_and_the_score_that_of_fake(self):
        real = msgspec.structs.replace(VERDICT, verdict="real")
        sample = only_sample(real)
        assert (sample["verdict"]["confidence"], sample["score"]) == (0.25, 0.75)

    def test_crops_are_detections_in_shares(self):
        crops = only_sample(SEVERAL)["crops"]
        first, second = crops["detections"]
        assert crops["_cls"] == "Detections"
        assert first == {
            "_cls": "Detection", "label": "crop", "bounding_box": [0.1, 0.25, 0.3, 0.28],
            "attention": 0.75, "influence": -0.125,
        }  # fmt: skip
        assert second["bounding_box"] == [0, 0, 1, 1]
        assert "influence" not in second

    def test_every_field_that_fiftyone_does_not_know_is_declared(self):
        """It refuses samples with others."""
        dataset = exported("fiftyone", SEVERAL)
        (sample,) = dataset["samples"]
        assert set(sample) - {"filepath", "metadata"} == {
            name for name in dataset["sample_fields"] if "." not in name
        }
        assert (dataset["media_type"], dataset["name"]) == ("image", "glass-edge")

    @pytest.mark.parametrize("name", HOSTILE)
    def test_paths_stay_as_they_are(self, name):
        verdict = msgspec.structs.replace(VERDICT, path=name)
        assert only_sample(verdict, prefix="/data/")["filepath"] == f"/data/{name}"


# Where a browser shows the crop at (4, 2) of 8 x 5 in an image of 40 x 20 stored pixels.
SHOWN = {
    1: (4, 2, 8, 5, 40, 20),
    2: (28, 2, 8, 5, 40, 20),
    3: (28, 13, 8, 5, 40, 20),
    4: (4, 13, 8, 5, 40, 20),
    5: (2, 4, 5, 8, 20, 40),
    6: (13, 4, 5, 8, 20, 40),
    7: (13, 28, 5, 8, 20, 40),
    8: (2, 28, 5, 8, 20, 40),
}


class TestTurnedImages:
    @pytest.mark.parametrize("orientation", SHOWN)
    def test_label_studio_gets_crops_where_it_shows_them(self, orientation, turned):
        left, top, width, height, across, down = SHOWN[orientation]
        verdict = turned("a.jpg", orientation)
        (found,) = rectangles(only_task(verdict, orientation_of=None))
        place = [found["value"][name] for name in ("x", "y", "width", "height")]
        expected = [left / across, top / down, width / across, height / down]
        assert place == pytest.approx([100 * each for each in expected])
        assert (found["original_width"], found["original_height"]) == (across, down)

    @pytest.mark.parametrize("orientation", SHOWN)
    def test_fiftyone_gets_crops_where_it_shows_them(self, orientation, turned):
        left, top, width, height, across, down = SHOWN[orientation]
        sample = only_sample(turned("a.jpg", orientation), orientation_of=None)
        (found,) = sample["crops"]["detections"]
        expected = [left / across, top / down, width / across, height / down]
        assert found["bounding_box"] == pytest.approx(expected)
        assert (sample["metadata"]["width"], sample["metadata"]["height"]) == (across, down)

    @pytest.mark.parametrize(("name", "seen"), [("a.jpg", 6), ("a.png", 6), ("a.webp", 1)])
    def test_browsers_do_not_turn_every_format(self, name, seen, turned):
        orientations = FileOrientations()
        assert orientations(turned(name, 6)) == seen
        assert orientations.sentences() == []

    def test_relative_paths_begin_at_the_root(self, turned, tmp_path):
        verdict = msgspec.structs.replace(turned("a.jpg", 6), path="a.jpg")
        assert FileOrientations(tmp_path)(verdict) == 6

    @pytest.mark.parametrize("change", ["gone", "changed", "unrecorded"])
    def test_other_files_are_not_asked(self, change, turned):
        verdict = turned("a.jpg", 6)
        if change == "gone":
            Path(verdict.path).unlink()
        elif change == "changed":
            Path(verdict.path).write_bytes(Path(verdict.path).read_bytes() + b"\0")
        else:
            verdict = msgspec.structs.replace(verdict, file=None)
        orientations = FileOrientations()
        assert (orientations(verdict), orientations.unknown) == (1, 1)
        assert "not known of 1 image:" in orientations.sentences()[0]


@pytest.mark.parametrize("name", FORMATS)
class TestEveryFormat:
    def test_records_are_taken_one_by_one(self, name):
        """An endless run is begun, not read to its end."""
        pieces = islice(FORMATS[name](repeat(VERDICT), "", upright), 100)
        assert max(map(len, pieces)) < 2000

    def test_no_record_is_an_empty_document(self, name):
        found = exported(name)
        assert (found["samples"] if name == "fiftyone" else found) == []

    def test_each_record_has_a_line(self, name):
        text = "".join(FORMATS[name]([VERDICT] * 3, "", upright))
        _, *lines, _ = text.splitlines()
        assert len(lines) == 3
        assert [json.loads(line.rstrip(",")) for line in lines]
        assert text.endswith("\n")

    def test_verdicts_without_a_path_are_left_out(self, name):
        nameless = msgspec.structs.replace(VERDICT, path=None)
        assert exported(name, nameless, VERDICT, nameless) == exported(name, VERDICT)

    def test_an_image_may_have_no_crops(self, name):
        assert exported(name, msgspec.structs.replace(VERDICT, crops=()))

    def test_names_are_not_markup(self, name):
        verdict = msgspec.structs.replace(VERDICT, path='"},{"x":"</script>')
        assert len(exported(name, verdict)) == len(exported(name, VERDICT))


class TestReviewable:
    def test_what_has_no_picture_is_left_out_and_counted(self):
        reviewable = Reviewable()
        nameless = msgspec.structs.replace(VERDICT, path=None)
        records = [FAILURE, VERDICT, nameless, FAILURE, SEVERAL]
        assert list(reviewable.among(records)) == [VERDICT, SEVERAL]
        assert (reviewable.errors, reviewable.without_path) == (2, 1)
        assert reviewable.sentences() == [
            "Left out: 2 images that could not be judged.",
            "Left out: 1 image without a path.",
        ]

    def test_nothing_is_said_of_nothing(self):
        reviewable = Reviewable()
        assert list(reviewable.among([VERDICT])) == [VERDICT]
        assert reviewable.sentences() == []
