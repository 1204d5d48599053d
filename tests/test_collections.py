"""glass-run over archives, tables and object storage: what is judged, taken up again and shown."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from archives import Opened
from conftest import Done, call, encoded, refusal
from glass_edge.runtime.containers import places
from glass_edge.runtime.judging import roads
from glass_edge.runtime.results.whole_file import whole_file
from glass_edge.runtime.storage import store
from object_storage import (
    object_storage_fixture,  # noqa: F401
    proxy_fixture,  # noqa: F401
    refusing,
    through,
)
from pyarrow import parquet
from test_report_command import rows_of

from glass_edge import EngineError, InputError

OPTIONS = ("-b", "model.glass", "--crops", "1", "--engine", "onnxruntime", "--workers", "1")
ONE_BY_ONE = ("--mode", "latency")  # so that records are the same to the last bit
MISSING = "it cannot be read: it is not there."
batch = partial(call, "glass-batch")


@pytest.fixture(scope="module")
def images(photograph) -> dict[str, bytes]:
    """Four pictures, each of another size."""
    small = photograph.resize((300, 260))
    return {f"{n}.jpg": encoded(small.crop((0, 0, 240 + 10 * n, 230)), "JPEG") for n in range(4)}


@pytest.fixture
def place(tmp_path, vit_bundle) -> Path:
    (tmp_path / "model.glass").symlink_to(vit_bundle.path)
    return tmp_path


def run(place: Path, *arguments: object, output: object = "v.jsonl", **options: object) -> Done:
    return call("glass-run", place, *arguments, *OPTIONS, "-o", output, **options)


def records(place: Path, name: str = "v.jsonl") -> list[dict]:
    return [json.loads(line) for line in (place / name).read_text().splitlines()]


def outcomes(place: Path) -> list[tuple[str, str]]:
    """Each record's path, and ``ok`` or the kind of its error."""
    return [
        (each["path"], "ok" if each["status"] == "ok" else each["error"]["type"])
        for each in records(place)
    ]


def tar(path: Path, images: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in images.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def table(path: Path, **columns: list[bytes]) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


class TestResumeOfObjects:
    """Objects are not looked up for each record; what is judged again is told by the records."""

    @pytest.fixture
    def bucket(self, object_storage, place, images) -> str:
        """Of four objects one is none, one is not there, and two are judged."""
        bucket = object_storage.bucket(
            {"a.jpg": images["0.jpg"], "b.jpg": images["1.jpg"], "broken.jpg": b"no image"}
        )
        self.urls = [f"s3://{bucket}/{name}.jpg" for name in ("a", "gone", "broken", "b")]
        assert run(place, *self.urls).returncode == 0
        kinds = ["ok", "UnreadableError", "ImageError", "ok"]
        assert outcomes(place) == list(zip(self.urls, kinds, strict=True))
        return bucket

    def put(self, object_storage, bucket: str, key: str, content: bytes) -> None:
        object_storage.client.put_object(Bucket=bucket, Key=key, Body=content)

    def test_makes_those_again_that_could_not_be_read(self, bucket, object_storage, place, images):
        before = records(place)
        self.put(object_storage, bucket, "gone.jpg", images["2.jpg"])
        done = run(place, *self.urls, "--resume")
        assert "3 records are there already; 1 more are made again" in done.stderr
        assert "1 images in" in done.stderr
        kept, again = records(place)[:3], records(place)[3:]
        assert kept == [before[0], *before[2:]]
        assert [(each["path"], each["status"]) for each in again] == [(self.urls[1], "ok")]

    def test_makes_errors_of_content_again_on_request(self, bucket, object_storage, place, images):
        self.put(object_storage, bucket, "broken.jpg", images["3.jpg"])
        done = run(place, *self.urls, "--resume", "--retry-errors", "all")
        assert "2 records are there already; 2 more are made again" in done.stderr
        assert outcomes(place)[2:] == [(self.urls[1], "UnreadableError"), (self.urls[2], "ok")]

    def test_makes_none_again_if_told_so(self, bucket, place):
        done = run(place, *self.urls, "--resume", "--retry-errors", "none")
        assert "4 records are there already\n0 images in" in done.stderr

    def test_gives_an_object_that_has_changed_a_second_record(
        self, bucket, object_storage, place, images
    ):
        before = records(place)
        self.put(object_storage, bucket, "a.jpg", images["3.jpg"])
        done = run(place, f"s3://{bucket}/", "--resume")
        assert "1 images in" in done.stderr
        *kept, again = records(place)
        assert kept == [before[0], *before[2:]]
        assert (again["path"], again["width"]) == (self.urls[0], 270)
        assert before[0]["width"] == 240


class TestAnArchiveThatCannotBeReadToItsEnd:
    """For a reason that may pass: what was read counts in glass-run, and a shard is done again."""

    @pytest.fixture(params=["disk", "storage"])
    def archive(self, request, place, images, monkeypatch, object_storage, proxy):
        """An archive of four images, of which two can be read."""
        path = tar(place / "photos.tar", images)
        with tarfile.open(path) as opened:
            third = opened.getmembers()[2].offset
        (place / "last.jpg").write_bytes(images["0.jpg"])
        if request.param == "disk":
            monkeypatch.setattr(places, "_open", lambda name: Opened(Path(name), third)())
            yield str(path)
            return
        bucket = object_storage.bucket({"photos.tar": path.read_bytes()})
        monkeypatch.setattr(store, "_BLOCK_BYTES", 1 << 10)
        monkeypatch.setattr(store, "_BUFFER_BYTES", 1 << 9)
        monkeypatch.setattr(store, "RETRY_SECONDS", 0.0)
        away = refusing(503, "SlowDown")

        def behave(asked, forward):
            start, _, _ = (
                asked.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            )
            return (away if int(start) >= third else lambda _, f: f())(asked, forward)

        with through(proxy, behave, AWS_MAX_ATTEMPTS="1"):
            yield f"s3://{bucket}/photos.tar"

    def test_is_an_error_record_and_the_run_goes_on(self, archive, place):
        assert run(place, archive, "last.jpg").returncode == 0
        assert outcomes(place) == [
            (f"{archive}/0.jpg", "ok"),
            (f"{archive}/1.jpg", "ok"),
            (archive, "UnreadableError"),
            ("last.jpg", "ok"),
        ]
        message = records(place)[2]["error"]["message"]
        assert "cannot be read" in message
        assert message.endswith(".")

    def test_fails_its_shard_which_leaves_no_part(self, archive, place):
        planned = f"{archive}\nlast.jpg\n"
        assert batch(place, "plan", "-", "-o", "plan.jsonl", input=planned).returncode == 0
        done = batch(place, "run", "plan.jsonl", *OPTIONS, "-o", "out")
        assert done.returncode == 1
        assert f"shard 0: {archive}: " in done.stderr
        assert "1 shard failed" in done.stderr
        assert [path.name[:11] for path in (place / "out").glob("part-*")] == ["part-000001"]


def test_a_damaged_archive_has_a_part_because_it_will_not_be_another_next_time(place, images):
    path = tar(place / "photos.tar", images)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert batch(place, "plan", "photos.tar", "-o", "plan.jsonl").returncode == 0
    done = batch(place, "run", "plan.jsonl", *OPTIONS, "-o", "out")
    assert done.returncode == 0, done.stderr
    status = json.loads(batch(place, "status", "out", "--json").stdout)
    assert status["complete"]
    assert sum(status["summary"]["verdicts"].values()) == 2
    assert status["summary"]["errors"] == {"ImageError": 1}  # it stands for all that follow


def test_another_column_of_a_table_is_not_mixed_in(place, images):
    first, second = list(images.values())[:2], list(images.values())[2:]
    table(place / "t.parquet", one=first, two=second)
    assert run(place, "t.parquet", "--column", "one").returncode == 0
    before = records(place)
    done = run(place, "t.parquet", "--column", "two", "--resume")
    assert "the record of t.parquet/0 is of an image of another size, perhaps from another" in (
        " ".join(done.stderr.split())
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert records(place) == before
    assert "0 images in" in run(place, "t.parquet", "--column", "one", "--resume").stderr


def test_folders_that_are_called_like_archives_are_folders(place, images):
    for folder, name in (("images.parquet", "0.jpg"), ("x.tar", "1.jpg")):
        (place / folder).mkdir()
        (place / folder / name).write_bytes(images[name])
    paths = ["images.parquet/0.jpg", "x.tar/1.jpg"]
    run(place, "images.parquet", "x.tar")
    assert outcomes(place) == [(path, "ok") for path in paths]
    assert "0 images in" in run(place, "images.parquet", "x.tar", "--resume").stderr
    os.utime(place / paths[0], (1, 1))
    done = run(place, "images.parquet", "x.tar", "--resume")
    assert "1 records are there already; 1 more are made again" in done.stderr
    assert outcomes(place) == [(path, "ok") for path in reversed(paths)]
    assert call("glass-report", place, "v.jsonl").returncode == 0
    for row in rows_of(place / "report.html"):
        assert row["thumbnail"]
        assert row["note"] is None
        assert (place / row["original"]).is_file()


def test_a_page_shows_all_images_wherever_they_lie(object_storage, place, images):
    """With their crops in native pixels, which are read again; only files have a link."""
    first, second, third, fourth = images.values()
    tar(place / "a.tar", {"1.jpg": first})
    tar(place / "b.tgz", {"1.jpg": second}, "w:gz")
    with zipfile.ZipFile(place / "c.zip", "w") as archive:
        archive.writestr("1.jpg", third)
    table(place / "t.parquet", one=[second], two=[fourth])
    (place / "1.jpg").write_bytes(first)
    bucket = object_storage.bucket({"1.jpg": second, "d.zip": (place / "c.zip").read_bytes()})
    for sources in (
        ("a.tar", "b.tgz", "c.zip", "1.jpg"),
        ("t.parquet", "--column", "two", f"s3://{bucket}/1.jpg"),
    ):
        done = run(place, *sources, "--force", "--report", "page.html")
        assert done.returncode == 0, done.stderr
        rows = rows_of(place / "page.html")
        assert len(rows) == len(records(place)) == (4 if "1.jpg" in sources else 2)
        for row in rows:
            assert row["record"]["status"] == "ok"
            assert row["thumbnail"].startswith("data:image/webp;base64,")
            assert len(row["previews"]) == len(row["record"]["crops"]) == 1
            assert row["note"] is None
            is_file = row["record"]["path"] == "1.jpg"
            assert row["original"] == ("1.jpg" if is_file else None)


class TestWhatIsGone:
    def test_is_an_error_record_in_a_plan_and_in_a_list(self, object_storage, place, images):
        bucket = object_storage.bucket({"a": images["0.jpg"], "gone": b"", "z": images["1.jpg"]})
        paths = [f"s3://{bucket}/{name}" for name in ("a", "gone", "z")]
        assert batch(place, "plan", f"s3://{bucket}", "-o", "s.jsonl").returncode == 0
        inventory = "".join(f"{bucket},{name},1\n" for name in ("a", "gone", "z"))
        (place / "i.csv").write_text(inventory)
        assert batch(place, "plan", "--inventory", "i.csv", "-o", "plan.jsonl").returncode == 0
        object_storage.client.delete_object(Bucket=bucket, Key="gone")
        kinds = ["ok", "UnreadableError", "ok"]
        assert run(place, "-", input="\n".join(paths)).returncode == 0
        assert outcomes(place) == list(zip(paths, kinds, strict=True))
        assert records(place)[1]["error"]["message"] == MISSING
        assert batch(place, "run", "plan.jsonl", *OPTIONS, "-o", "out").returncode == 0
        assert batch(place, "merge", "out", "-o", "v.jsonl", "--force").returncode == 0
        assert outcomes(place) == list(zip(paths, kinds, strict=True))

    def test_is_perhaps_a_mistake_where_it_is_named(self, object_storage, place, images):
        bucket = object_storage.bucket({"a.jpg": images["0.jpg"]})
        said = refusal(run(place, f"s3://{bucket}/gone"))
        assert f"there is nothing at s3://{bucket}/gone: check the bucket and the prefix." in said
        assert not (place / "v.jsonl").exists()
        assert run(place, f"s3://{bucket}/gone.jpg", f"s3://{bucket}/a.jpg").returncode == 0
        assert [kind for _, kind in outcomes(place)] == ["UnreadableError", "ok"]


def test_a_list_may_hold_what_makes_no_sense(object_storage, place, images):
    """Whoever wrote it is not there any more: each is a record, and no image is lost to it."""
    bucket = object_storage.bucket({"folder/notes.txt": b"no image"})
    for name in images:
        (place / name).write_bytes(images[name])
    table(place / "t.parquet", one=[b"1"], two=[b"2"])
    tar(place / "photos.tar", {"a/b.jpg": images["0.jpg"]})
    wrong = {
        "https://x/y.jpg": "https:// is not read: name a path, or an address",
        f"s3://{bucket}/empty/": MISSING,
        f"s3://{bucket}/folder/": "there is no image in it.",
        "t.parquet": "several columns of t.parquet could hold the images",
        "photos.tar/gone.jpg": "there is no such file.",
    }
    listed = ["0.jpg", *wrong, "photos.tar/a/b.jpg", "1.jpg"]
    done = run(place, "-", input="\n".join(listed))
    assert done.returncode == 0, done.stderr
    assert [record["path"] for record in records(place)] == listed
    for record in records(place):
        assert (record["status"] == "ok") == (record["path"] not in wrong)
        if record["status"] == "error":
            assert record["error"]["message"].startswith(wrong[record["path"]])


class TestOutputOnObjectStorage:
    @pytest.fixture
    def local(self, place, images) -> Path:
        """What the same runs write to files."""
        (place / "images").mkdir()
        for name in ("0.jpg", "1.jpg"):
            (place / "images" / name).write_bytes(images[name])
        (place / "images" / "broken.jpg").write_bytes(b"no image")
        return place

    @pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
    def test_holds_what_a_file_would_and_is_replaced_only_on_request(
        self, suffix, object_storage, local
    ):
        bucket = object_storage.bucket()
        name = f"v.{suffix}"
        url = f"s3://{bucket}/out/{name}"
        for output in (name, url):
            done = run(local, "images", *ONE_BY_ONE, output=output)
            assert done.returncode == 0, done.stderr
        assert object_storage.keys(bucket) == [f"out/{name}"]
        written, expected = object_storage.content(bucket, f"out/{name}"), local / name
        if suffix == "parquet":
            found = parquet.read_table(io.BytesIO(written)).to_pylist()
            assert found == parquet.read_table(expected).to_pylist()
            assert len(found) == 3
        else:
            assert written == expected.read_bytes()
        if suffix == "csv":
            assert len(list(csv.DictReader(io.StringIO(written.decode())))) == 3
        said = refusal(run(local, "images", output=url))
        assert f"{url} exists already: choose another name, or --force to replace it." in said
        assert object_storage.content(bucket, f"out/{name}") == written
        run(local, "images/0.jpg", "--force", output=url)
        replaced = object_storage.content(bucket, f"out/{name}")
        assert b"images/0.jpg" in replaced
        assert b"images/1.jpg" not in replaced

    @pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
    def test_of_a_run_that_fails_is_nothing_and_what_was_there_stays(
        self, suffix, object_storage, local, monkeypatch
    ):
        def fail(*_: object) -> None:
            raise EngineError("the device is gone.")

        name = f"v.{suffix}"
        empty, full = object_storage.bucket(), object_storage.bucket({name: b"old"})
        monkeypatch.setattr(roads, "rows_of", fail)
        for bucket, force in ((empty, ()), (full, ("--force",))):
            done = run(local, "images", *ONE_BY_ONE, *force, output=f"s3://{bucket}/{name}")
            assert done.returncode == 2
            assert "the device is gone." in done.stderr
            assert f"no s3://{bucket}/{name} was written" in done.stderr
            assert object_storage.unfinished(bucket) == []
        assert object_storage.keys(empty) == []
        assert object_storage.content(full, name) == b"old"

    def test_that_appeared_before_the_run_began_to_write_is_kept(self, object_storage):
        bucket = object_storage.bucket({"v.csv": b"old"})
        with (
            pytest.raises(InputError, match="exists already"),
            whole_file(f"s3://{bucket}/v.csv", replace=False),
        ):
            pass
        assert object_storage.content(bucket, "v.csv") == b"old"
