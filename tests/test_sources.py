"""Which images the user means."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from glass_edge.runtime.finding.files import image_file, readable_path
from glass_edge.runtime.finding.sources import find_images, listed_images
from glass_edge.runtime.images.reading import read_image

from glass_edge import InputError


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


@pytest.mark.parametrize(
    "pattern",
    [
        "*", "./*.jpg", "s*/", "*/*", "*/deep/*", "sub/*.webp", "sub/../*.PNG", "**", "**/*",
        "**/*.jp*g", "sub/**/*.webp", "**/deep/*", "**/deep/**/*", ".c*/*", ".*.jpg", "*/e.jpg",
        "[bo]*", "nothing*",
    ],
)  # fmt: skip
def test_patterns_are_those_of_the_shell(pattern, folder):
    """As the standard library has them, where no link and no locked folder is in the way."""
    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207
    files = [match for match in matches if not Path(match).is_dir()]
    folders = [match for match in matches if Path(match).is_dir()]
    expected = {*files, *(path for place in folders for path in images_below(place))}
    if expected:
        assert sorted(find_images([pattern])) == sorted(expected)
    else:
        with pytest.raises(InputError, match="matches no image"):
            find_images([pattern])
    absolute = [str(folder / path) for path in expected]
    assert not expected or sorted(find_images([str(folder / pattern)])) == sorted(absolute)


def images_below(place: str) -> list[str]:
    try:
        return find_images([place])
    except InputError:
        return []


def test_a_file_whose_name_looks_like_a_pattern(folder):
    assert find_images(["odd[1].jpg"]) == ["odd[1].jpg"]


@pytest.fixture
def bracketed(tmp_path, monkeypatch) -> Path:
    """Names with brackets, as many programs number copies, and those that fit them as patterns."""
    for name in (
        "[examples]/a.jpg",
        "e/b.jpg",
        "IMG[1].jpg",
        "IMG1.jpg",
        "x/[2]/c.jpg",
        "x/2/d.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("argument", "found"),
    [
        ("[examples]", ["[examples]/a.jpg"]),
        ("[examples]/*.jpg", ["[examples]/a.jpg"]),
        ("[examples]/**/*.jpg", ["[examples]/a.jpg"]),
        ("x/[2]/*", ["x/[2]/c.jpg"]),
        ("*/[2]/?.jpg", ["x/[2]/c.jpg"]),
        ("**/[2]/*", ["x/[2]/c.jpg"]),
        ("IMG[1].jpg", ["IMG[1].jpg"]),
        ("IM?[1].jpg", ["IMG1.jpg"]),
        ("[e]/*.jpg", ["e/b.jpg"]),
        ("IMG[12].jpg", ["IMG1.jpg"]),
    ],
)
def test_a_name_with_brackets_comes_before_the_pattern(argument, found, bracketed):
    assert find_images([argument]) == found


@pytest.mark.parametrize("argument", ["IMG[2].jpg", "[examples]/IMG[1].jpg", "nowhere/[1].jpg"])
def test_a_missing_name_with_brackets_is_kept_to_become_a_record(argument, bracketed):
    assert find_images([argument, "IMG1.jpg"]) == [argument, "IMG1.jpg"]
    with pytest.raises(InputError, match="matches no image"):
        find_images([f"{argument}*"])


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


@pytest.mark.parametrize("argument", [".", "**", "**/*.*", "**/*/*", "*/**/*"])
def test_links_that_lead_in_circles_end(argument, folder):
    """Glob would follow two of them for hours."""
    (folder / "notes.txt").unlink()
    without = find_images([argument])
    for number in range(2):
        (folder / "sub" / f"loop{number}").symlink_to(folder)
        (folder / "sub" / "deep" / f"loop{number}").symlink_to(folder / "sub")
    assert find_images([argument]) == without


def test_links_to_files_and_folders_that_are_named_are_followed(folder):
    (folder / "other").mkdir()
    (folder / "other" / "x.jpg").symlink_to(folder / "b.jpg")
    (folder / "link").symlink_to(folder / "other")
    for argument in ("link", "lin*", "link/*.jpg", "link/**/*.jpg", "li*/**/*.jpg"):
        assert find_images([argument]) == ["link/x.jpg"]


def test_a_link_to_itself_is_no_folder(folder):
    (folder / "self").symlink_to("self")
    assert find_images(["*/*.webp"]) == ["sub/c.webp"]


@pytest.mark.parametrize("argument", [".", "**", "**/*.jpeg", "sub/*/*.jpeg"])
def test_a_folder_that_cannot_be_read_is_an_error_and_no_gap(argument, folder, request):
    folder.chmod(0o755)
    (folder / "sub" / "deep").chmod(0)
    request.getfixturevalue("unprivileged")
    with pytest.raises(InputError, match=r"sub/deep cannot be read \(Permission denied\)"):
        find_images([argument])


def test_a_file_named_in_a_folder_that_cannot_be_searched_is_no_gap(folder, request):
    folder.chmod(0o755)
    (folder / "sub" / "deep").chmod(0o444)
    request.getfixturevalue("unprivileged")
    with pytest.raises(InputError, match=r"deep/d.jpeg cannot be read \(Permission denied\)"):
        find_images(["sub/*/d.jpeg"])


def test_only_the_folders_that_a_pattern_names_are_looked_into(folder, request):
    folder.chmod(0o755)
    (folder / "sub").chmod(0)
    request.getfixturevalue("unprivileged")
    assert find_images(["*.jpg"]) == ["b.jpg", "odd[1].jpg"]


@pytest.mark.parametrize("argument", [".", "**/*.jp*g", "*/*/*.jpeg"])
def test_folders_that_vanish_while_they_are_searched_are_passed_over(argument, folder):
    """Some thousand of them come and go meanwhile; what stays is found each time."""
    stopped = threading.Event()

    def come_and_go():
        while not stopped.is_set():
            for number in range(20):
                (folder / "sub" / f"brief{number}" / "inner").mkdir(parents=True)
            for number in range(20):
                shutil.rmtree(folder / "sub" / f"brief{number}")

    without = find_images([argument])
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(come_and_go)
        try:
            for _ in range(300):
                assert find_images([argument]) == without
        finally:
            stopped.set()
    working.result()


def test_names_that_are_no_utf_8_are_found_and_can_be_read(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(name)).mkdir()
    Path(os.fsdecode(name + b"/\xff.jpg")).write_bytes(b"content")
    for argument in (str(tmp_path), f"{tmp_path}/**", f"{tmp_path}/c*/*.jpg"):
        (path,) = find_images([argument])
        assert os.fsencode(path) == name + b"/\xff.jpg"
        assert read_image(path) == b"content"
        assert readable_path(path) == f"{tmp_path}/caf\\xe9/\\xff.jpg"


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
