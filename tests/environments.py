"""Environments in which only glass-edge and what one of its extras needs are installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterator
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
OURS = "glass-edge"


def build_wheel(folder: Path) -> Path:
    """Build the wheel that users install; needs no network."""
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    subprocess.run([*PIP, "wheel", *options, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def linked_environment(folder: Path, wheel: Path, extras: Collection[str]) -> Path:
    """Make an environment without a network: its libraries are links to those installed here.

    Returns:
        The folder of its programs.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    options = ("--no-deps", "--no-index", "--no-compile")
    subprocess.run([*PIP, "--python", python, "install", *options, wheel], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (ours,) = (each for each in distributions(path=[str(packages)]) if each.name == OURS)
    for library in needed(ours, extras):
        link(library, packages)
    return python.parent


def installed_environment(folder: Path, wheel: Path, extra: str) -> Path:
    """Make an environment as users do: pip takes the libraries from a package registry.

    Returns:
        The folder of its programs.
    """
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = (folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check")
    subprocess.run([*install, f"{wheel}[{extra}]"], check=True)
    return folder / "bin"


def oldest_environment(folder: Path, wheel: Path, extras: Collection[str]) -> Path:
    """Make an environment as pip would, of the oldest libraries that extras of ours allow.

    Returns:
        The folder of its programs.
    """
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = (folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check")
    wanted = (f"{wheel}[{','.join(extras)}]", *floors(wheel, extras))
    done = subprocess.run([*install, "--no-compile", *wanted], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    assert "yanked" not in done.stderr, done.stderr
    return folder / "bin"


def floors(wheel: Path, extras: Collection[str]) -> Iterator[str]:
    """Yield what a wheel and its extras require directly, each in the oldest release allowed."""
    (ours,) = distributions(path=[str(wheel)])
    for requirement in map(Requirement, ours.requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            for bound in requirement.specifier:
                if bound.operator == ">=":
                    yield f"{requirement.name}=={bound.version}"


def needed(ours: Distribution, extras: Collection[str]) -> list[Distribution]:
    """List the installed distributions that extras of ours require, directly or not."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(OURS, extra) for extra in (*extras, "")]
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        if name != OURS:
            found[name] = distribution(name)
        waiting.extend(required(found.get(name, ours), wanted))
    return list(found.values())


def required(of: Distribution, extra: str) -> Iterator[tuple[str, str]]:
    """Yield name and extra of what a distribution's metadata requires here."""
    for requirement in map(Requirement, of.requires or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for wanted in ("", *requirement.extras):
                yield canonicalize_name(requirement.name), wanted


def link(library: Distribution, packages: Path) -> None:
    """Put links to a distribution's modules into a folder of packages."""
    for file in library.files or ():
        source, place = Path(str(library.locate_file(file))), packages / file
        if ".." not in file.parts and source.exists():  # programs lie elsewhere
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(source)
