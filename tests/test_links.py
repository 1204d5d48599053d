"""Links to folders are followed, each real folder once, and none leads in circles or upwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from glass_edge.benchmarks.evaluation.measure import labelled_images
from glass_edge.runtime.finding.choosing import Reason
from glass_edge.runtime.finding.sources import find_images


@pytest.fixture
def skipped() -> dict[str, Reason]:
    return {}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A data set that is partly links, and what they lead to, beside it."""
    for name in ("set/own/a.jpg", "store/one/b.jpg", "store/one/deep/c.jpg", "store/two/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "set" / "first").symlink_to("../store/one")
    monkeypatch.chdir(tmp_path)
    return tmp_path


LINKED = ["set/first/b.jpg", "set/first/deep/c.jpg", "set/own/a.jpg"]


@pytest.mark.parametrize(
    "argument", ["set", "s*t", "set/**", "set/**/*", "set/**/*.jpg", "se[t]/**", "./set/../s?t"]
)
def test_links_are_followed(argument, place):
    assert [os.path.normpath(path) for path in find_images([argument])] == LINKED


@pytest.mark.parametrize("argument", ["**/first", "**/first/**", "**/first/**/*.jpg", "set/first"])
def test_a_link_that_is_named_is_followed_although_its_folder_is_searched_anyway(argument, place):
    """The pattern fits the link's name, and not the folder's."""
    assert find_images([argument]) == LINKED[:2]


def test_of_two_names_that_fit_a_pattern_the_folders_own_is_kept(place):
    (place / "set" / "deep").symlink_to("../store/one/deep")
    assert find_images(["**/deep/*.jpg"]) == ["store/one/deep/c.jpg"]


def test_links_in_what_links_lead_to_are_followed(place):
    (place / "store" / "one" / "more").symlink_to("../two")
    assert find_images(["set"]) == [*LINKED[:2], "set/first/more/d.jpg", LINKED[2]]


def test_a_class_of_links_is_whole(place):
    (place / "set" / "fake").symlink_to("first")
    (place / "set" / "real").mkdir()
    (place / "set" / "real" / "one").symlink_to("../../store/two")
    labels = labelled_images(place / "set", ["fake", "real"])
    assert list(labels.values()) == ["fake", "fake", "real"]


@pytest.mark.parametrize("argument", ["set", "set/**", "set/**/*.jpg", "set/**/*"])
def test_a_folder_that_several_links_lead_to_is_searched_once(argument, place, skipped):
    (place / "set" / "second").symlink_to("../store/one/deep")
    (place / "set" / "third").symlink_to("../store")
    found = find_images([argument], skipped.__setitem__)
    assert found == [*LINKED, "set/third/two/d.jpg"]
    assert skipped == {
        "set/second": Reason.SEARCHED,
        "set/third/one": Reason.SEARCHED,
    }


@pytest.mark.parametrize("argument", ["set", "set/**", "set/**/*.jpg", "set/**/*"])
def test_a_folder_is_found_at_its_own_place_rather_than_a_links(argument, place, skipped):
    (place / "set" / "a-link").symlink_to("own")
    assert find_images([argument], skipped.__setitem__) == LINKED
    assert skipped == {"set/a-link": Reason.SEARCHED}


@pytest.mark.parametrize("argument", ["set", "set/**", "set/**/*.jpg"])
def test_links_upwards_are_told_and_not_followed(argument, place, skipped):
    """One to the root folder would have the whole machine searched."""
    (place / "set" / "all").symlink_to("/")
    (place / "set" / "own" / "up").symlink_to("../..")
    (place / "store" / "one" / "up").symlink_to("..")
    assert find_images([argument], skipped.__setitem__) == LINKED
    assert skipped == {
        "set/all": Reason.ABOVE,
        "set/own/up": Reason.ABOVE,
        "set/first/up": Reason.ABOVE,
    }


@pytest.mark.parametrize("argument", ["set", "set/**", "set/**/*.jpg", "set/**/*", "set/**/*/*"])
def test_circles_end(argument, place, skipped):
    (place / "store" / "one" / "again").symlink_to("../one")
    (place / "store" / "one" / "deep" / "other").symlink_to("../../two")
    (place / "store" / "two" / "back").symlink_to("../one/deep")
    (place / "set" / "own" / "set").symlink_to("../../set")
    found = find_images([argument], skipped.__setitem__)
    assert found == [*LINKED[:2], "set/first/deep/other/d.jpg", LINKED[2]]
    assert set(skipped.values()) == {Reason.SEARCHED}


def test_what_is_named_twice_is_found_twice(place):
    """The user's own list is left as it is, whichever way it names a folder."""
    assert find_images(["set/first", "store/one"]) == [
        "set/first/b.jpg", "set/first/deep/c.jpg", "store/one/b.jpg", "store/one/deep/c.jpg",
    ]  # fmt: skip
