"""Which images the user means."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from glass_edge.runtime import InputError
from glass_edge.runtime.sources import find_images, image_file, listed_images


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    names = [
        "b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "sub/c.webp", "sub/deep/d.jpeg",
        ".cache/e.jpg", "odd[1].jpg",
    ]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folders_are_searched_in_a_stable_order(folder):
    assert find_images(["."]) == [
        "./a.PNG", "./b.jpg", "./odd[1].jpg", "./sub/c.webp", "./sub/deep/d.jpeg",
    ]  # fmt: skip


def test_files_are_taken_as_they_are(folder):
    assert find_images(["notes.txt", "missing.jpg"]) == ["notes.txt", "missing.jpg"]


def test_patterns(folder):
    assert find_images(["*.jpg"]) == ["b.jpg", "odd[1].jpg"]
    assert find_images(["**/*.jpeg"]) == ["sub/deep/d.jpeg"]
    assert find_images(["su*"]) == ["sub/c.webp", "sub/deep/d.jpeg"]


def test_a_file_whose_name_looks_like_a_pattern(folder):
    assert find_images(["odd[1].jpg"]) == ["odd[1].jpg"]


def test_the_order_of_the_arguments_is_kept(folder):
    assert find_images(["sub", "a.PNG"]) == ["sub/c.webp", "sub/deep/d.jpeg", "a.PNG"]


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [("*.gif", r"pattern \*\.gif matches no image"), ("empty", "folder empty holds no image")],
)
def test_nothing_found_is_an_error(argument, sentence, folder):
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=sentence):
        find_images([argument])


def test_links_that_lead_in_circles_end(folder):
    (folder / "sub" / "loop").symlink_to(folder)
    assert len(find_images(["."])) == 5


def test_a_list_is_read_lazily():
    lines = iter([b"a.jpg\n", b"\n", b"with space.png\r\n"])
    listed = listed_images(lines)
    assert next(listed) == "a.jpg"
    assert next(lines) == b"\n"
    assert list(listed) == ["with space.png"]


@pytest.mark.parametrize(
    ("seconds", "modified"),
    [
        (0, "1970-01-01T00:00:00.000001+00:00"),
        (1_767_323_045, "2026-01-02T03:04:05.000001+00:00"),
        (-1, "1969-12-31T23:59:59.000001+00:00"),
        (300_000_000_000, "9999-12-31T23:59:59.999999+00:00"),
        (-70_000_000_000, "0001-01-01T00:00:00.000000+00:00"),
    ],
)
def test_a_file_may_be_of_any_time(seconds, modified):
    """Damaged and careless archives have years that no calendar has."""
    shared = Path("/dev/shm")  # of the file systems at hand, one that takes them all
    with tempfile.NamedTemporaryFile(dir=shared if shared.is_dir() else None) as file:
        os.utime(file.name, ns=(0, seconds * 10**9 + 1999))
        if Path(file.name).stat().st_mtime_ns != seconds * 10**9 + 1999:
            pytest.skip("this file system cannot hold such a time")
        found = image_file(file.name)
    assert found is not None
    assert found.modified == modified
