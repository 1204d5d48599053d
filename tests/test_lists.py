"""Lists of paths on standard input, as the tools of each system write them."""

from __future__ import annotations

import json
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest
from conftest import PROGRAMS, call, refusal
from glass_edge.runtime.finding.sources import listed_images

from glass_edge import InputError

run = partial(call, "glass-run")
NAMES = ["a.jpg", "with space.png", "b.jpg"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-marked", "utf-16-be-marked"]
)
@pytest.mark.parametrize("last", ["", "end"])
@pytest.mark.parametrize("size", [1, 3, 4096])
def test_lists_of_every_system_are_read(end, encoding, last, size):
    """PowerShell writes UTF-16 with a byte-order mark, Notepad UTF-8 with one."""
    mark = "\ufeff" if encoding.endswith("-marked") else ""
    text = mark + end.join(["äöü.jpg", "", *NAMES]) + (end if last else "")
    content = text.encode(encoding.removesuffix("-marked"))
    chunks = (content[start : start + size] for start in range(0, len(content), size))
    assert list(listed_images(chunks)) == ["äöü.jpg", *NAMES]


@pytest.mark.parametrize("size", [1, 3, 4096])
def test_nuls_may_end_paths(size):
    """Then names may hold line ends, as they may on most systems."""
    content = b"a\nb.jpg\0\0caf\xe9.jpg\0\xef\xbb\xbf.jpg\0last\r"
    chunks = (content[start : start + size] for start in range(0, len(content), size))
    expected = ["a\nb.jpg", os.fsdecode(b"caf\xe9.jpg"), "\ufeff.jpg", "last\r"]
    assert list(listed_images(chunks, null=True)) == expected


@pytest.mark.parametrize("size", [1, 4096])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_path_is_passed_on_before_the_list_goes_on(encoding, size):
    content = "a.jpg\n".encode(encoding)
    waiting = [content[start : start + size] for start in range(0, len(content), size)]

    def chunks():
        yield from waiting
        raise AssertionError("it would wait for whoever writes the list")

    assert next(listed_images(chunks())) == "a.jpg"
    if encoding == "utf-8":
        waiting = [b"a.jpg\0"]
        assert next(listed_images(chunks(), null=True)) == "a.jpg"


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\xef"])
def test_nearly_nothing_is_no_fault(content):
    assert [os.fsencode(path) for path in listed_images([content])] == [b"\xef"] * (
        content == b"\xef"
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"x.jpg\na.jpg\0b.jpg\0", "line 2 of the list holds a NUL: give -0"),
        ("a.jpg\n".encode("utf-16-le"), "line 1 of the list holds a NUL"),
        (b"\xff\xfea\0.\0j\0\n\0\x00\xd8a\0\n\0", "begins as UTF-16 and goes on as something else"),
        (b"\xff\xfea\0\n\0b", "begins as UTF-16 and goes on as something else"),
    ],
)
def test_what_is_no_list_is_one_sentence(content, sentence):
    with pytest.raises(InputError, match=sentence):
        list(listed_images([content]))


@pytest.fixture(scope="module")
def place(tmp_path_factory, vit_bundle, photographs) -> Path:
    place = tmp_path_factory.mktemp("place")
    (place / "model.glass").symlink_to(vit_bundle.path)
    for name, path in zip(NAMES, photographs, strict=False):
        (place / name).symlink_to(path)
    return place


ARGUMENTS = ("-b", "model.glass", "--crops", "1", "-o", "-")


def test_a_list_of_powershell_is_judged(place):
    done = run(place, "-", *ARGUMENTS, input="\r\n".join(NAMES).encode("utf-16"))
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == NAMES
    assert "0 errors" in done.stderr


def test_what_find_prints_is_judged(place):
    found = subprocess.run(
        ["find", "-L", ".", "-maxdepth", "1", "-name", "*.[jp]*g", "-print0"],
        cwd=place, capture_output=True, check=True,
    )  # fmt: skip
    for option in ("-0", "--null"):
        done = run(place, option, "-", *ARGUMENTS, input=found.stdout)
        paths = {json.loads(line)["path"] for line in done.stdout.splitlines()}
        assert paths == {f"./{name}" for name in NAMES}


def test_a_nul_without_the_option_is_one_sentence_and_no_record(place):
    done = run(place, "-", *ARGUMENTS, input=b"a.jpg\nb.jpg\0with space.png\0")
    assert done.returncode == 2
    assert "line 2 of the list holds a NUL: give -0" in done.stderr
    assert "Traceback" not in done.stderr
    assert "\\u0000" not in done.stdout


def test_the_option_is_for_lists(place):
    assert "-0 is for a list on standard input" in refusal(run(place, "-0", "a.jpg", *ARGUMENTS))


@pytest.mark.parametrize("option", [[], ["-0"]])
def test_records_appear_while_the_list_is_still_written(option, place):
    command = [PROGRAMS / "glass-run", *option, "-", *ARGUMENTS]
    end = b"\0" if option else b"\n"
    with subprocess.Popen(
        command, cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        for name in NAMES:
            process.stdin.write(os.fsencode(name) + end)
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["path"] == name


@pytest.mark.parametrize("arguments", [("",), ("a.jpg", "")])
def test_an_empty_name_is_one_sentence(arguments, place):
    done = run(place, *arguments, *ARGUMENTS)
    assert "a path is empty, perhaps a variable that is not set" in refusal(done)
