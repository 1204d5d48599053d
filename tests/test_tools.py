"""What `make resolve` checks; it is not run here, for it needs a network."""

from __future__ import annotations

import importlib
import re

import pytest
from conftest import ROOT

REPORTS = ROOT / "docs" / "reports"


@pytest.fixture
def tool(monkeypatch):
    """Import a script of tools/."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    return importlib.import_module


def test_extras_are_spelled_out(tool):
    extras = {"a": ["x>=1", "Glass_Edge[b]"], "b": ["y", "glass-edge[c]"], "c": ["z", "x>=1"]}
    assert tool("resolve").spelled_out("glass-edge", "a", extras) == ["x>=1", "y", "z"]


def test_every_extra_of_the_project_is_read(tool):
    resolve = tool("resolve")
    project = resolve.Project.read(ROOT / "pyproject.toml")
    assert project.python == "3.10"
    assert all("glass-edge" not in " ".join(lines) for lines in project.extras.values())
    assert any(line.startswith("torch>=") for line in project.extras["test"])
    rows = re.findall(r"^\| ([\w-]+) \| \d+", (REPORTS / "resolve.md").read_text(), re.MULTILINE)
    assert rows == list(project.extras), "an extra is new or gone: run make resolve"


def index(sources, missing):
    """A resolver that knows which packages have no wheel, by name, and which are on no platform."""

    def resolve(requirements, platform, _, from_source):
        for name in requirements:
            if (name in sources and name not in from_source) or (name, platform) in missing:
                return f"{name} has no wheel for {platform}."
        return dict.fromkeys(requirements, "1.0")

    return resolve


@pytest.mark.parametrize(
    ("sources", "missing", "failures"),
    [
        ({"cuda"}, {("gpu", "aarch64")}, []),
        (set(), {("gpu", "aarch64")}, ["cuda has wheels for x86_64 now: delete its exemption "
                                       "there.", "cuda has wheels for aarch64 now: delete its "
                                       "exemption there."]),
        ({"cuda"}, set(), ["gpu has wheels for aarch64 now: delete its exemption there."]),
        ({"cuda"}, {("gpu", "aarch64"), ("gpu", "x86_64")},
         ["one cannot be installed on x86_64: gpu has no wheel for x86_64."]),
    ],
    ids=["as expected", "wheels now", "a wheel there now", "no wheel"],
)  # fmt: skip
def test_exemptions_are_used_and_must_be_needed(tool, sources, missing, failures):
    resolve = tool("resolve")
    exemptions = (
        resolve.Exemption("cuda", resolve.PLATFORMS, source=True, reason="why"),
        resolve.Exemption("gpu", ("aarch64",), source=False, reason="why"),
    )
    project = resolve.Project("3.10", {"one": ("numpy", "gpu"), "two": ("cuda",)})
    report = resolve.check(project, index(sources, missing), exemptions)
    assert report.failures == failures
    if not failures:
        assert report.rows == [
            ("one", "2 and 2", "1 and 1; without gpu"),
            ("two", *["1 and 1; cuda from source"] * 2),
        ]


def test_an_exemption_that_nothing_needs_fails(tool):
    resolve = tool("resolve")
    unused = (resolve.Exemption("cuda", resolve.PLATFORMS, source=True, reason="why"),)
    report = resolve.check(resolve.Project("3.10", {"one": ("numpy",)}), index((), ()), unused)
    assert report.failures == ["no extra needs cuda any more: delete its exemption."]
