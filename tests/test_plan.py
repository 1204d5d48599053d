"""glass-batch plan: what a collection is divided into, and how the plan is read again."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
from functools import partial
from pathlib import Path
from urllib.parse import quote_plus

import pyarrow
import pytest
from conftest import EXAMPLES, Done, call, refusal
from glass_edge.runtime.commands.batching.options import size, size_text
from glass_edge.runtime.finding.choosing import in_silence
from glass_edge.runtime.machine.errors import InputError
from glass_edge.runtime.shards.inventories import read_inventory
from glass_edge.runtime.shards.plan import Plan, PlanWriter
from glass_edge.runtime.shards.planning import Item, Limits, write_plan
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

batch = partial(call, "glass-batch")


def plan(place: Path, *arguments: object, **options: object) -> Done:
    return batch(place, "plan", *arguments, "-o", "plan.jsonl", **options)


def lines(place: Path) -> list[dict]:
    """The plan's lines, as any program reads them."""
    return [json.loads(line) for line in (place / "plan.jsonl").read_text().splitlines()]


def shards(place: Path) -> list[list[str]]:
    return [line["paths"] for line in lines(place)[1:-1]]


def written(items: list[Item], limits: Limits) -> bytes:
    file = io.BytesIO()
    write_plan(items, limits, PlanWriter(file, ["here"], None))
    return file.getvalue()


def opened(content: bytes) -> Plan:
    return Plan("plan.jsonl", lambda: io.BytesIO(content))


def images(count: int, length: int = 10) -> list[Item]:
    return [Item(f"/images/{number:0{length}}.jpg", number, False) for number in range(count)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Twelve photographs in two folders, and a file that is no image."""
    shutil.copytree(EXAMPLES, tmp_path / "photos")
    return tmp_path


def table(path: Path, **columns: list[bytes]) -> None:
    parquet.write_table(pyarrow.table(columns), path)


class TestTheFile:
    def test_has_a_line_for_each_shard_between_two_others(self, place):
        done = plan(place, "photos", "--images", 5)
        assert done.returncode == 0
        assert "3 shards, 12 images, 6.12 MB: plan.jsonl" in done.stderr
        head, *found, end = lines(place)
        assert head == {"glass_plan": 1, "sources": ["photos"], "column": None}
        assert [(line["shard"], line["images"]) for line in found] == [(0, 5), (1, 5), (2, 2)]
        paths = sorted((place / "photos").rglob("*.jpg"))
        assert [path for line in found for path in line["paths"]] == list(map(str, paths))
        for line in found:
            assert line["bytes"] == sum(Path(path).stat().st_size for path in line["paths"])
        assert (end["shards"], end["images"]) == (3, 12)
        assert end["bytes"] == sum(path.stat().st_size for path in paths)

    def test_ends_with_a_digest_and_the_places_of_the_shards(self, place):
        plan(place, "photos", "--images", 5)
        content = (place / "plan.jsonl").read_bytes()
        end = lines(place)[-1]
        before = b"".join(content.splitlines(keepends=True)[:-1])
        assert end["sha256"] == hashlib.sha256(before).hexdigest()
        for number, offset in enumerate(end["offsets"]):
            assert content[offset:].startswith(b'{"shard":%d,' % number)

    def test_is_the_same_each_time(self, place):
        plan(place, "photos", "--images", 5)
        first = (place / "plan.jsonl").read_bytes()
        plan(place, "photos", "--images", 5, "--force")
        assert (place / "plan.jsonl").read_bytes() == first

    def test_keeps_the_column_of_tables(self, place):
        table(place / "t.parquet", picture=[b"1"], thumbnail=[b"2"])
        assert plan(place, "t.parquet", "--column", "picture").returncode == 0
        assert Plan.at(str(place / "plan.jsonl")).head.column == "picture"

    def test_is_not_made_for_a_column_that_is_not_there(self, place):
        table(place / "t.parquet", picture=[b"1"], thumbnail=[b"2"])
        said = refusal(plan(place, "t.parquet", "--column", "pictrue"))
        assert "t.parquet has no column pictrue; it has picture" in said
        assert "Did you mean picture?" in said
        said = refusal(plan(place, "t.parquet"))
        assert "several columns of t.parquet could hold the images: name one of" in said
        said = refusal(plan(place, "photos", "--column", "picture"))
        assert "--column is for .parquet tables, and there is none: leave it out." in said
        assert not (place / "plan.jsonl").exists()

    def test_is_replaced_only_with_force(self, place):
        plan(place, "photos")
        before = (place / "plan.jsonl").read_bytes()
        said = refusal(plan(place, "photos", "--images", 1))
        assert "plan.jsonl exists already: choose another name, or --force" in said
        assert (place / "plan.jsonl").read_bytes() == before

    def test_is_there_whole_or_not_at_all(self, place):
        plan(place, "photos")
        before = (place / "plan.jsonl").read_bytes()
        (place / "photos" / os.fsdecode(b"\xff.jpg")).touch()
        refusal(plan(place, "photos", "--force"))
        assert (place / "plan.jsonl").read_bytes() == before
        assert sorted(path.name for path in place.iterdir()) == ["photos", "plan.jsonl"]

    def test_cannot_be_where_no_folder_can(self, place):
        done = batch(place, "plan", "photos", "-o", "photos/CREDITS.md/plan.jsonl")
        said = "photos/CREDITS.md/plan.jsonl cannot be written: Not a directory."
        assert said in refusal(done)


class TestShards:
    @given(
        st.lists(st.tuples(st.integers(0, 50) | st.none(), st.booleans()), min_size=1),
        st.integers(1, 6),
        st.integers(1, 100),
    )
    def test_hold_each_image_once_and_no_more_than_they_may(self, collection, most, most_bytes):
        items = [Item(f"/{n}", size, alone) for n, (size, alone) in enumerate(collection)]
        found = opened(written(items, Limits(most, most_bytes)))
        found.check()
        by_path = {item.path: item for item in items}
        seen: list[str] = []
        for number in range(found.shards):
            shard = found.shard(number)
            held = [by_path[path] for path in shard.paths]
            seen += shard.paths
            sizes = [item.size for item in held]
            assert shard.bytes == (None if None in sizes else sum(sizes))
            if held[0].container:
                assert (len(held), shard.images) == (1, None)
                continue
            assert shard.images == len(held) <= most
            assert not any(item.container for item in held)
            assert len(held) == 1 or sum(size or 0 for size in sizes) <= most_bytes
        assert sorted(seen) == sorted(by_path)
        pictures = [item.path for item in items if not item.container]
        assert [path for path in seen if path in pictures] == pictures

    def test_are_as_large_as_they_may_be(self):
        found = opened(written([Item(f"/{n}", 10, False) for n in range(10)], Limits(100, 30)))
        assert [found.shard(n).images for n in range(found.shards)] == [3, 3, 3, 1]
        assert opened(written(images(10), Limits(4, 10**9))).shards == 3

    @pytest.mark.parametrize(
        ("text", "number"),
        [
            ("4GB", 4_000_000_000),
            ("4gb", 4_000_000_000),
            ("1.5 GiB", 3 << 29),
            ("512MiB", 512 << 20),
            ("10kB", 10_000),
            ("2TB", 2 * 10**12),
            ("100000", 100_000),
            ("7B", 7),
        ],
    )
    def test_have_sizes_as_people_write_them(self, text, number):
        assert size(text) == number

    @pytest.mark.parametrize("text", ["", "0", "-4GB", "4XB", "GB", "4GB5", "0.1B", "٤GB"])
    def test_have_no_other_sizes(self, place, text):
        said = refusal(plan(place, "photos", "--bytes", text))
        assert "is no size: write 4GB, 512MiB or a number of bytes." in said

    def test_are_told_in_sizes_that_people_read(self):
        told = [size_text(number) for number in (0, 999, 1000, 6_123_162, 4 * 10**9)]
        assert told == ["0 bytes", "999 bytes", "1 kB", "6.12 MB", "4 GB"]
        assert [size(size_text(number)) for number in (2000, 4 * 10**9)] == [2000, 4 * 10**9]


class TestSources:
    def test_mean_the_same_in_every_folder_and_links_stay(self, place):
        (place / "link").symlink_to("photos/real")
        plan(place, "./photos/../link/cat.jpg", "photos/fake/*.jpg")
        (found,) = shards(place)
        assert found[0] == str(place / "link" / "cat.jpg")
        assert found[1:] == sorted(map(str, (place / "photos" / "fake").glob("*.jpg")))

    def test_are_archives_by_name_or_pattern_one_to_a_shard(self, place):
        for name in ("a.tar", "b.TGZ", "c.zip", "d.parquet"):
            (place / name).write_bytes(b"x" * 7)
        done = plan(place, "?.tar", "*.TGZ", "c.zip", "photos/real/cat.jpg", "d.parquet")
        assert "5 shards, an unknown number of images" in done.stderr
        found = [(Path(line["paths"][0]).name, line["images"]) for line in lines(place)[1:-1]]
        assert found == [
            *(("a.tar", None), ("b.TGZ", None), ("c.zip", None), ("d.parquet", None)),
            ("cat.jpg", 1),
        ]
        assert [line["bytes"] for line in lines(place)[1:5]] == [7, 7, 7, 7]

    def test_a_folder_of_archives_stands_for_them(self, place):
        (place / "shards" / "more").mkdir(parents=True)
        for name in ("b.tar", "a.tar", "more/c.zip", "notes.txt"):
            (place / "shards" / name).touch()
        done = plan(place, "shards")
        assert [[Path(path).name for path in found] for found in shards(place)] == [
            *(["a.tar"], ["b.tar"], ["c.zip"])
        ]
        assert "passed over: 1 file that is no image" in done.stderr

    def test_of_a_folder_with_both_only_images_are_taken_and_the_others_told(self, place):
        (place / "photos" / "a.tar").touch()
        done = plan(place, "photos", "--list-skipped")
        assert len(shards(place)[0]) == 12
        name = "photos/a.tar (archive or table (name it to look inside))"
        assert f"passed over: {name}" in done.stderr

    def test_what_a_deep_pattern_passes_over_is_told_once(self, place):
        (place / "photos" / ".hidden").mkdir()
        (place / "photos" / ".hidden" / "cat.jpg").touch()
        done = plan(place, "photos/**")
        assert "1 hidden folder" in done.stderr
        assert len(shards(place)[0]) == 13  # a pattern takes any file that it matches

    @pytest.mark.parametrize(
        ("source", "sentence"),
        [
            ("phots", "there is no phots. Did you mean photos?"),
            ("empty", "empty holds no image, no archive and no table."),
            ("*.png", "*.png holds no image, no archive and no table."),
            ("", "a source is empty, perhaps a variable that is not set: name a folder."),
            ("ftp://host/x", "ftp:// is not read: name a path, or an address"),
        ],
    )
    def test_that_hold_nothing_are_refused(self, place, source, sentence):
        (place / "empty").mkdir()
        assert sentence in refusal(plan(place, "photos", source))
        assert not (place / "plan.jsonl").exists()

    def test_there_must_be_one(self, place):
        assert "Missing argument 'SOURCE...'" in refusal(plan(place))
        done = plan(place, "-", input="\n\n")
        assert "the collection is empty" in refusal(done)

    def test_a_name_that_is_not_utf8_is_named(self, place):
        (place / "photos" / os.fsdecode(b"caf\xe9.jpg")).touch()
        said = refusal(plan(place, "photos"))
        assert r"photos/caf\xe9.jpg has a name that is not UTF-8" in said

    def test_a_list_on_standard_input(self, place):
        listed = f"photos/real/cat.jpg\ngone.jpg\n{place}/photos/fake/cat.jpg\ns3://b/k.jpg\n"
        done = plan(place, "-", input=listed)
        assert done.returncode == 0
        (found,) = lines(place)[1:-1]
        assert found["paths"] == [
            *(str(place / name) for name in ("photos/real/cat.jpg", "gone.jpg")),
            *(str(place / "photos/fake/cat.jpg"), "s3://b/k.jpg"),
        ]
        assert (found["images"], found["bytes"]) == (4, None)
        said = refusal(plan(place, "-", "photos", "--force"))
        assert "cannot be combined with other sources" in said


KEYS = ("a b.jpg", "plus+sign.png", "100%.jpg", "größe/é.webp", 'quo"te,comma.jpg', "x=1&y.gif")
S3_LINES = [f'"bucket","{quote_plus(key, safe="/")}","{number}"' for number, key in enumerate(KEYS)]
LISTED = [(f"s3://bucket/{key}", number) for number, key in enumerate(KEYS)]


class TestInventories:
    def found(self, path: Path) -> list[tuple[str, int | None]]:
        return [tuple(each) for each in read_inventory(str(path), in_silence)]

    def test_of_s3_have_no_header_and_encoded_keys(self, tmp_path):
        (tmp_path / "i.csv").write_text("\n".join(S3_LINES))
        assert self.found(tmp_path / "i.csv") == LISTED

    def test_may_be_compressed(self, tmp_path):
        (tmp_path / "i.csv.gz").write_bytes(gzip.compress("\r\n".join(S3_LINES).encode()))
        assert self.found(tmp_path / "i.csv.gz") == LISTED

    def test_with_a_header_have_keys_as_they_are_and_columns_in_any_order(self, tmp_path):
        rows = ["Size,Key,ETag,Bucket", *(f"{size},{quoted(k)},x,b" for k, size in SIZES.items())]
        (tmp_path / "i.csv").write_text("\ufeff" + "\n".join(rows), encoding="utf-8")
        expected = [(f"s3://b/{key}", size) for key, size in SIZES.items()]
        assert self.found(tmp_path / "i.csv") == expected

    def test_as_tables(self, tmp_path):
        columns = {"bucket": ["b"] * 3, "key": list(SIZES), "size": list(SIZES.values())}
        parquet.write_table(pyarrow.table(columns | {"etag": ["x"] * 3}), tmp_path / "i.parquet")
        expected = [(f"s3://b/{key}", size) for key, size in SIZES.items()]
        assert self.found(tmp_path / "i.parquet") == expected
        parquet.write_table(pyarrow.table({"path": ["a.jpg", "b.jpg"]}), tmp_path / "p.parquet")
        assert self.found(tmp_path / "p.parquet") == [("a.jpg", None), ("b.jpg", None)]

    def test_as_lists_of_paths_and_addresses(self, place):
        text = "photos/real/cat.jpg\r\ns3://bucket/photos.tar\n\nphotos/no image.txt\n"
        (place / "i.txt").write_text(text)
        plan(place, "--inventory", "i.txt")
        archive, rest = lines(place)[1:-1]
        assert (archive["paths"], archive["images"]) == (["s3://bucket/photos.tar"], None)
        assert rest["paths"] == [
            str(place / name) for name in ("photos/real/cat.jpg", "photos/no image.txt")
        ]

    def test_several_and_sources_add_up(self, place):
        (place / "a.csv").write_text("b,1.jpg,10\n")
        (place / "b.csv").write_text("path,size\nphotos/real/cat.jpg,5\n")
        plan(place, "photos/fake", "--inventory", "a.csv", "--inventory", "b.csv")
        (found,) = lines(place)[1:-1]
        assert found["paths"][6:] == ["s3://b/1.jpg", str(place / "photos/real/cat.jpg")]
        sizes = [path.stat().st_size for path in (place / "photos" / "fake").glob("*.jpg")]
        assert found["bytes"] == sum(sizes) + 15

    def test_of_a_bucket_are_searched_like_a_folder(self, place):
        keys = ("1.jpg", "notes.txt", "folder/", ".hidden/2.jpg", "raw.nef", "3", "all.tar")
        (place / "i.csv").write_text("".join(f"b,{key},1\n" for key in keys))
        done = plan(place, "--inventory", "i.csv")
        assert shards(place) == [["s3://b/all.tar"], ["s3://b/1.jpg", "s3://b/3"]]
        assert "1 file that is no image, 1 raw file, 1 hidden folder" in done.stderr

    @pytest.mark.parametrize(
        ("name", "content", "sentence"),
        [
            ("i.csv", b"b,1.jpg,v123,true\n", "row 1 has the size 'v123', which is no number"),
            ("i.csv", b"b,1.jpg,1\nb\n", "row 2 has no bucket and key, and no path"),
            ("i.csv", b"b,%ff.jpg,1\n", "is not UTF-8"),
            ("i.csv", b"b,\xff.jpg,1\n", "is not UTF-8"),
            ("i.csv", b'b,"' + b"x" * 200_000 + b'",1\n', "cannot be used"),
            ("i.csv.gz", gzip.compress(b"b,1.jpg,1\n", mtime=0)[:-9], "cannot be read"),
            ("i.csv.gz", b"b,1.jpg,1\n", "cannot be read"),
            ("i.txt", b"a\0b\n", "line 1 of the list holds a NUL"),
            ("i.parquet", b"PAR1", "cannot be used"),
            ("i.xlsx", b"", "give a name that ends in .txt, .csv, .csv.gz or .parquet."),
            ("i.csv", b"", "the collection is empty"),
        ],
    )
    def test_that_make_no_sense_are_refused(self, place, name, content, sentence):
        (place / name).write_bytes(content)
        assert sentence in refusal(plan(place, "--inventory", name))
        assert not (place / "plan.jsonl").exists()

    def test_that_are_missing_or_have_other_columns_are_refused(self, place):
        (place / "keys.csv").write_text("b,1.jpg,1\n")
        said = refusal(plan(place, "--inventory", "kyes.csv"))
        assert "there is no kyes.csv. Did you mean keys.csv?" in said
        parquet.write_table(pyarrow.table({"name": ["a.jpg"]}), place / "i.parquet")
        said = refusal(plan(place, "--inventory", "i.parquet"))
        assert "it has no columns bucket and key, and none called path" in said


SIZES = {"a+b.jpg": 3, "100%25.png": 0, 'c,"d".webp': 1 << 40}


def quoted(key: str) -> str:
    return '"' + key.replace('"', '""') + '"'


class Counting(io.BytesIO):
    """A file that counts how much is read of it."""

    total = 0

    def read(self, count: int | None = -1, /) -> bytes:
        found = super().read(count)
        Counting.total += len(found)
        return found


NO_PLAN = "make the plan anew|make one with glass-batch plan|run glass-batch plan again"


class TestReading:
    def test_a_shard_takes_one_look_at_the_end_and_one_at_its_line(self):
        content = written(images(20_000, length=200), Limits(100))
        Counting.total = 0
        found = Plan("plan.jsonl", lambda: Counting(content))
        assert found.shard(150).paths[0].endswith("15000.jpg")
        assert len(content) > 4_000_000
        assert Counting.total < 100_000

    def test_the_last_line_may_be_long(self):
        found = opened(written(images(20_000), Limits(1)))
        assert found.shards == 20_000
        assert found.shard(19_999).paths == ("/images/0000019999.jpg",)
        assert opened(written(images(1), Limits(1))).shard(0).bytes == 0

    @pytest.mark.parametrize("number", [-1, 3])
    def test_there_is_no_other_shard(self, number):
        with pytest.raises(InputError, match=rf"plan.jsonl has no shard {number}: it has 3"):
            opened(written(images(9), Limits(3))).shard(number)

    def test_a_plan_cut_off_anywhere_was_not_finished(self):
        content = written(images(9), Limits(3))
        for length in range(len(content)):
            with pytest.raises(
                InputError, match=r"is incomplete: run glass-batch plan again|is no plan"
            ):
                opened(content[:length])

    def test_a_plan_changed_anywhere_is_damaged(self):
        content = written([*images(4), Item("/a.tar", None, True)], Limits(3))
        for place in range(len(content)):
            for flipped in (1, 0x80):
                changed = bytearray(content)
                changed[place] ^= flipped
                with pytest.raises(InputError, match=NO_PLAN):
                    opened(bytes(changed)).check()
        opened(content).check()

    def test_lines_in_another_order_are_noticed_when_one_is_read(self):
        items = [Item(f"/{number}.jpg", 1, False) for number in range(6)]
        head, first, second, end = written(items, Limits(3)).splitlines(keepends=True)
        with pytest.raises(InputError, match="shard 1 is not where the last line says"):
            opened(head + second + first + end).shard(1)

    @pytest.mark.parametrize(
        "offsets", [[0, 90], [90, 60], [60], [60, 60], [60, 10**30], [-1, 60], [60, 10**6]]
    )
    def test_offsets_that_cannot_be_are_refused(self, offsets):
        content = written(images(6), Limits(3))
        changed = re.sub(rb'"offsets":.*', b'"offsets":%s}' % json.dumps(offsets).encode(), content)
        with pytest.raises(InputError, match=NO_PLAN):
            opened(changed)

    def test_other_files_and_versions_are_refused(self, tmp_path):
        (tmp_path / "v.jsonl").write_text('{"path": "a.jpg"}\n')
        with pytest.raises(InputError, match=r"v.jsonl is no plan: make one with glass-batch plan"):
            Plan.at(str(tmp_path / "v.jsonl"))
        newer = written(images(3), Limits(3)).replace(b'"glass_plan":1', b'"glass_plan":2')
        with pytest.raises(InputError, match="is a plan of version 2, and this glass-edge reads"):
            opened(newer)
        with pytest.raises(InputError, match=r"there is no .*w.jsonl. Did you mean .*v.jsonl"):
            Plan.at(str(tmp_path / "w.jsonl"))


class TestTheCommand:
    def test_proposes_the_subcommand_that_was_meant(self, tmp_path):
        assert "there is no command statsu. Did you mean status?" in refusal(
            batch(tmp_path, "statsu")
        )
        assert "See glass-batch --help." in refusal(batch(tmp_path, "xyzzy"))

    @pytest.mark.parametrize("command", ["plan", "run", "status", "merge"])
    def test_shows_examples(self, command, tmp_path):
        done = batch(tmp_path, command, "--help")
        assert f"glass-batch {command} " in done.stdout.partition("Examples:")[2]
