"""Which files of a folder are images: by name where it says so, else by their first bytes."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from conftest import call
from glass_edge.runtime.finding import choosing
from glass_edge.runtime.finding.choosing import Reason
from glass_edge.runtime.finding.sources import find_images
from PIL import Image

from glass_edge import InputError

READ = {
    "phone.hif": "HEIF", "stereo.mpo": "MPO", "stereo.jps": "JPEG", "saved.jpg_large": "JPEG",
    "twice.jpg.1": "JPEG", "old.pjpeg": "JPEG", "sphere.insp": "JPEG", "film.j2k": "JPEG2000",
    "film.jpx": "JPEG2000", "moving.apng": "PNG", "burst.avifs": "AVIF", "burst.heics": "HEIF",
    "3f2a99": "JPEG", "photo.unheard-of": "WEBP",
}  # fmt: skip
"""Names that glass-run read when they were named, and passed over in a folder; and formats."""


@pytest.fixture
def skipped() -> dict[str, Reason]:
    return {}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pillow_heif.register_heif_opener()
    picture = Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))
    for name, written_as in READ.items():
        picture.save(tmp_path / name, written_as)
    picture.save(tmp_path / ".hidden.jpg")
    return tmp_path


def test_a_folder_holds_what_is_read_when_it_is_named(folder, skipped):
    assert find_images(["."], skipped.__setitem__) == [f"./{name}" for name in sorted(READ)]
    assert skipped == {"./.hidden.jpg": Reason.HIDDEN}
    assert find_images([".hidden.jpg"]) == [".hidden.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.txt", b"\xff\xd8\xff what a text is called decides", Reason.OTHER),
        ("photo.xmp", b"<x:xmpmeta/>", Reason.OTHER),
        ("film.mp4", b"", Reason.OTHER),
        ("photo.thm", b"\xff\xd8\xff\xe0", Reason.OTHER),
        ("LICENSE", b"P1 of all: do what you want", Reason.OTHER),
        ("_SUCCESS", b"", Reason.OTHER),
        ("film", b"\0\0\0\x14ftypqt  \0\0\0\0", Reason.OTHER),
        ("login", b"<!DOCTYPE html><title>Log in", Reason.OTHER),
        ("._photo.jpg", b"\0\5\x16\7\0\2\0\0", Reason.OTHER),
        ("photo.NEF", b"MM\0*", Reason.RAW),
        ("photo.cr3", b"", Reason.RAW),
        ("IMG_0001", b"\0\0\0\x18ftypcrx \0\0\0\1", Reason.RAW),
        ("photo.jxl", b"\xff\x0a", Reason.UNREAD),
        ("drawing", b"<svg xmlns='http://www.w3.org/2000/svg'>", Reason.UNREAD),
        (".thumbnail", b"\xff\xd8\xff\xe0", Reason.HIDDEN),
        (".DS_Store", b"\0\0\0\1Bud1", Reason.OTHER),
    ],
)
def test_what_is_passed_over_and_why(name, content, reason, tmp_path, skipped):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "photo.jpg").touch()
    assert find_images([str(tmp_path)], skipped.__setitem__) == [str(tmp_path / "photo.jpg")]
    assert skipped == {str(tmp_path / name): reason}


def test_hidden_folders_are_passed_over_whole(folder, skipped):
    for name in (".thumbnails", ".git"):
        (folder / name / "deep").mkdir(parents=True)
        (folder / name / "deep" / "x.jpg").touch()
    for argument in (".", "**", "**/*.j*"):
        skipped.clear()
        assert not any("/deep/" in path for path in find_images([argument], skipped.__setitem__))
        assert Counter(skipped.values())[Reason.HIDDEN_FOLDER] == 2
    assert find_images([".thumbnails"]) == [".thumbnails/deep/x.jpg"]


def test_a_link_that_leads_nowhere_is_told(tmp_path, skipped):
    """One with an image's suffix becomes an error record, since an image is missing."""
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    for name in ("gone", "itself"):
        (tmp_path / name).symlink_to("itself")
    assert find_images([str(tmp_path)], skipped.__setitem__) == [str(tmp_path / "gone.jpg")]
    assert set(skipped.values()) == {Reason.NOWHERE}
    assert len(skipped) == 2


def test_pipes_are_never_opened(tmp_path, skipped):
    """Opening one to look would wait for somebody who writes."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "photo.jpg").touch()
    assert find_images([str(tmp_path)], skipped.__setitem__) == [str(tmp_path / "photo.jpg")]
    assert skipped == dict.fromkeys(map(str, tmp_path.glob("[lp]i*")), Reason.SPECIAL)


def test_a_file_that_may_not_be_read_is_no_gap(folder, request):
    """It may be an image: its record says that it cannot be read."""
    folder.chmod(0o755)
    (folder / "secret").write_bytes(b"this is a secret")
    (folder / "secret").chmod(0)
    request.getfixturevalue("unprivileged")
    assert "./secret" in find_images(["."])


def test_files_whose_name_says_what_they_are_are_not_opened(folder, monkeypatch):
    """A hundred thousand of them on a network share would take minutes."""
    opened: list[str] = []
    look = choosing._by_content
    monkeypatch.setattr(choosing, "_by_content", lambda path: (opened.append(path), look(path))[1])
    for name in ("a.jpg", "b.PNG", "c.json", "d.nef", "e.jxl", "._a.jpg"):
        (folder / name).touch()
    find_images(["."])
    assert sorted(opened) == ["./3f2a99", "./photo.unheard-of", "./twice.jpg.1"]


def test_a_folder_of_other_things_holds_no_image(tmp_path, skipped):
    (tmp_path / "photo.dng").touch()
    with pytest.raises(InputError, match="holds no image"):
        find_images([str(tmp_path)], skipped.__setitem__)
    assert list(skipped.values()) == [Reason.RAW]


@pytest.fixture(scope="module")
def place(tmp_path_factory, vit_bundle, photographs) -> Path:
    """Images of two classes, and what is none of them."""
    place = tmp_path_factory.mktemp("place")
    for name in ("fake", "real"):
        (place / "images" / name / ".thumbnails").mkdir(parents=True)
        for path in photographs[:3]:
            (place / "images" / name / path.name).symlink_to(path)
        (place / "images" / name / "notes.txt").touch()
    (place / "images" / "fake" / "photo.nef").touch()
    (place / "model.glass").symlink_to(vit_bundle.path)
    return place


SUMMARY = "passed over: 2 files that are no images, 1 raw file, 2 hidden folders"


@pytest.mark.parametrize(
    "command",
    [
        ("glass-run", "images", "-b", "model.glass"),
        ("glass-eval", "images", "-b", "model.glass"),
        ("glass-quantize", "model.glass", "--layers", "--calibrate", "images"),
    ],
)
def test_every_command_that_searches_folders_says_what_it_passed_over(command, place):
    done = call(command[0], place, *command[1:])
    assert done.stderr.splitlines()[-1] == f"{SUMMARY} (--list-skipped names them)"
    done = call(command[0], place, *command[1:], "--list-skipped")
    lines = done.stderr.splitlines()
    assert "passed over: images/fake/photo.nef (raw file)" in lines
    assert "passed over: images/real/notes.txt (file that is no image)" in lines
    assert "passed over: images/real/.thumbnails (hidden folder)" in lines
    assert lines[-1] == SUMMARY


def test_nothing_is_said_where_nothing_is_passed_over(place):
    done = call("glass-run", place, "images/fake/*.png", "-b", "model.glass", "-o", "-")
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["ok"] * 2
    assert "passed over" not in done.stderr
