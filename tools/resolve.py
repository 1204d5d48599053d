"""Checks that every extra can be installed for the oldest Python, on x86-64 and on aarch64.

uv resolves for another Python and processor than this one's: it reads what the index says of each
release, and installs nothing. Each extra is resolved twice, once to the newest releases and once to
the oldest that pyproject.toml allows. Only wheels are taken, but for the exceptions below.

    python tools/resolve.py -o docs/reports/resolve.md
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PLATFORMS = "x86_64", "aarch64"
GLIBC = "manylinux_2_35"
"""The glibc of Ubuntu 22.04, which JetPack 6 is and which brings Python 3.10."""

Resolution: TypeAlias = Literal["highest", "lowest-direct"]
BOTH: tuple[Resolution, ...] = ("highest", "lowest-direct")
Packages: TypeAlias = Mapping[str, str]
Resolver: TypeAlias = Callable[[Sequence[str], str, Resolution, Sequence[str]], "Packages | str"]
"""Resolves requirements on a platform to versions by name, or says why it cannot.

It takes the requirements, the platform, which releases, and the packages that have no wheel.
"""


class IndexFailureError(Exception):
    """The index was not asked, so nothing is known."""


@dataclass(frozen=True)
class Exemption:
    """A package that has no wheel for the oldest Python.

    Attributes:
        package: its name.
        platforms: where it has none.
        source: whether it is then built from its source; else an extra lacks it there.
        reason: why, for the report.
    """

    package: str
    platforms: tuple[str, ...]
    source: bool
    reason: str


EXEMPTIONS = (
    Exemption("pycuda", PLATFORMS, True, "pip compiles it against the CUDA toolkit that it finds."),
    Exemption(
        "tensorrt-rtx",
        PLATFORMS,
        True,
        "A source package of a few lines, which only names the packages for one release of CUDA.",
    ),
    Exemption(
        "tensorrt-rtx-cu13",
        PLATFORMS,
        True,
        "A source package of a few lines; the libraries and bindings that it names are wheels.",
    ),
    Exemption(
        "onnxruntime-gpu",
        ("aarch64",),
        False,
        "Its wheels for aarch64 begin with Python 3.11.",
    ),
)


@dataclass(frozen=True)
class Project:
    """What pyproject.toml says: the oldest Python, and each extra with all that it requires."""

    python: str
    extras: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: Path) -> Project:
        """Read a pyproject.toml. Extras that name extras of the same project are spelled out."""
        table: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        found = re.search(r">=\s*([\d.]+)", table["requires-python"])
        if not found:
            raise ValueError(f"{path}: requires-python names no oldest Python.")
        extras = table["optional-dependencies"]
        return cls(
            python=found[1],
            extras={
                extra: (*table["dependencies"], *spelled_out(table["name"], extra, extras))
                for extra in extras
            },
        )


def spelled_out(name: str, extra: str, extras: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what an extra requires, with the project's own extras replaced by their content."""
    found: dict[str, None] = {}
    for line in extras[extra]:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) == canonicalize_name(name):
            for inner in sorted(requirement.extras):
                found |= dict.fromkeys(spelled_out(name, inner, extras))
        else:
            found[line] = None
    return list(found)


@dataclass
class Report:
    """What was found: a row for each extra, and a sentence for each failure."""

    python: str
    rows: list[tuple[str, ...]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def to_markdown(self, exemptions: Sequence[Exemption], tool: str) -> str:
        """Return the report as a page."""
        today = datetime.datetime.now(tz=datetime.timezone.utc).date()
        outcome = "**Failed.**" if self.failures else "**Passed.**"
        sections = [
            f"# Extras on Python {self.python}",
            "`make resolve`",
            f"{outcome} {today}, {tool}, glibc of {GLIBC}. Each cell is the number of packages, "
            "with the newest releases and with the oldest that pyproject.toml allows. Nothing was "
            "installed.",
            "\n".join(f"- {sentence}" for sentence in self.failures),
            table(("extra", *PLATFORMS), self.rows),
            "## Packages without a wheel",
            table(
                ("package", "platform", "then", "why"),
                [
                    (
                        exemption.package,
                        ", ".join(exemption.platforms),
                        "built from source" if exemption.source else "left out",
                        exemption.reason,
                    )
                    for exemption in exemptions
                ],
            ),
            "Each of these was asked for from wheels alone, and was not to be had. If one can "
            "be had, the check fails, so this list stays true.",
        ]
        return "\n\n".join(section for section in sections if section) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def check(
    project: Project, resolve: Resolver, exemptions: Sequence[Exemption] = EXEMPTIONS
) -> Report:
    """Resolve every extra on every platform, and see whether each exemption is still needed."""
    report = Report(project.python)
    seen: set[str] = set()
    for extra, requirements in project.extras.items():
        cells = []
        for platform in PLATFORMS:
            cell, names = _cell(requirements, platform, resolve, exemptions)
            cells.append(cell)
            seen |= names
            if not names:
                report.failures.append(f"{extra} cannot be installed on {platform}: {cell}")
        report.rows.append((extra, *cells))
    report.failures += _needless(resolve, exemptions, seen)
    return report


def _cell(
    requirements: Sequence[str],
    platform: str,
    resolve: Resolver,
    exemptions: Sequence[Exemption],
) -> tuple[str, set[str]]:
    """Return what the table says of an extra, and the packages it names; none if it fails."""
    here = [exemption for exemption in exemptions if platform in exemption.platforms]
    absent = {exemption.package for exemption in here if not exemption.source}
    source = [exemption.package for exemption in here if exemption.source]
    left_out = {name for line in requirements if (name := _name(line)) in absent}
    kept = [line for line in requirements if _name(line) not in absent]
    found = [resolve(kept, platform, releases, source) for releases in BOTH]
    for packages in found:
        if isinstance(packages, str):
            return packages, set()
    names = {name for packages in found for name in packages}
    notes = [
        *(f"{name} from source" for name in source if name in names),
        *(f"without {name}" for name in sorted(left_out)),
    ]
    counts = " and ".join(str(len(packages)) for packages in found)
    return "; ".join([counts, *notes]), names | left_out


def _name(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def _needless(resolve: Resolver, exemptions: Sequence[Exemption], seen: set[str]) -> Iterator[str]:
    """Name each exemption that can be deleted: it has wheels now, or nothing asks for it."""
    source = [exemption.package for exemption in exemptions if exemption.source]
    for exemption in exemptions:
        others = [name for name in source if name != exemption.package]
        if exemption.package not in seen:
            yield f"no extra needs {exemption.package} any more: delete its exemption."
            continue
        for platform in exemption.platforms:
            if not isinstance(resolve([exemption.package], platform, "highest", others), str):
                yield (
                    f"{exemption.package} has wheels for {platform} now: delete its exemption "
                    "there."
                )


def resolve_with_uv(python: str) -> Resolver:
    """Return a resolver that asks uv about one version of Python."""

    def resolve(
        requirements: Sequence[str], platform: str, releases: Resolution, source: Sequence[str]
    ) -> Packages | str:
        command = [*UV, "pip", "compile", "-", "--quiet", "--no-header", "--no-annotate",
                   "--no-python-downloads", "--python-version", python,
                   "--python-platform", f"{platform}-{GLIBC}", "--resolution", releases,
                   "--only-binary", ":all:"]  # fmt: skip
        command += [word for name in source for word in ("--no-binary", name)]
        done = subprocess.run(  # noqa: S603, no shell reads it
            command, check=False, input="\n".join(requirements), capture_output=True, text=True
        )
        if done.returncode == 0:
            pairs = (line.split("==") for line in done.stdout.splitlines())
            return {canonicalize_name(name): version for name, version in pairs}
        if "No solution found" not in done.stderr:
            raise IndexFailureError(done.stderr.strip())
        reason = re.search(r"Because (.*?)(?:$|\n *hint|\n\n)", done.stderr, flags=re.DOTALL)
        return " ".join((reason[1] if reason else done.stderr).split())

    return resolve


UV = sys.executable, "-m", "uv"


def main() -> int:
    """Read the command line, check, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="the report, .md")
    given = parser.parse_args()
    project = Project.read(ROOT / "pyproject.toml")
    try:
        report = check(project, resolve_with_uv(project.python))
    except IndexFailureError as error:
        sys.stderr.write(f"make resolve: the package index cannot be asked.\n{error}\n")
        return 2
    version = subprocess.run(  # noqa: S603, no shell reads it
        [*UV, "--version"], capture_output=True, text=True, check=True
    )
    tool = " ".join(version.stdout.split()[:2])
    given.output.write_text(report.to_markdown(EXEMPTIONS, tool), encoding="utf-8")
    for row in report.rows:
        sys.stdout.write(": ".join((row[0], ", ".join(row[1:]))) + "\n")
    for sentence in report.failures:
        sys.stderr.write(f"{sentence}\n")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
