"""Beginning a run over a plan, or going on with it: what judges, and which shards are left."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ..bundle.bundle import Bundle
from ..images.decode import settle_pillow
from ..judging.options import DetectorOptions
from ..storage.folders import folder_at
from ..storage.urls import is_url
from .judging import JudgeSettings, ShardJudge
from .parts import part_summary, parts_in
from .plan import Plan
from .settings import RunSettings, begin


class Share(NamedTuple):
    """The shards of one process of several: those whose number modulo ``of`` is ``number``."""

    number: int = 0
    of: int = 1

    def among(self, shards: int) -> range:
        """Return the numbers of these of so many shards."""
        return range(self.number, shards, self.of)


@dataclass(frozen=True)
class BatchRun:
    """A run that was begun in a folder.

    Attributes:
        settings: what judges it, on any machine that reaches the bundle and the folder.
        own: how many shards are in this process's share.
        todo: those of them that have no part.
    """

    settings: JudgeSettings
    own: int
    todo: tuple[int, ...]

    def judge(self) -> ShardJudge:
        """Return what judges its shards, in a process that does nothing else.

        Image libraries are set up for that; the detector is opened with the first shard.
        """
        settle_pillow(self.settings.options.max_pixels)
        return ShardJudge(self.settings)


def begin_run(
    plan: str,
    bundle: str | os.PathLike[str],
    output: str,
    options: DetectorOptions | None = None,
    *,
    share: Share | None = None,
    retry_errors: bool = False,
) -> BatchRun:
    """Begin a run, or go on with one.

    Args:
        plan: the path or address of what ``glass-batch plan`` made.
        bundle: the folder of the bundle to judge with.
        output: the path or address of the folder that takes the parts.
        options: how to judge.
        share: which shards are this process's; by default all.
        retry_errors: judge shards again of which some images could not be read.

    Raises:
        BundleError: the bundle is damaged.
        InputError: the plan cannot be read, or the run in the folder is another.
        OutputError: nothing can be written there.
    """
    options = options or DetectorOptions()
    given, opened, out = Plan.at(plan), Bundle.open(Path(bundle)), folder_at(output)
    begun = begin(out, given, RunSettings.of(given, opened, options))
    own = (share or Share()).among(begun.shards)
    parts = parts_in(out, opened.digest, begun.shards)
    todo = (
        shard
        for shard in own
        if shard not in parts or (retry_errors and part_summary(out, parts[shard]).unreadable)
    )
    engines = options.engine_folder
    settings = JudgeSettings(
        bundle=_absolute(opened.path),
        bundle_sha256=opened.digest,
        options=replace(options, engine_folder=engines and _absolute(engines)),
        output=output if is_url(output) else str(_absolute(Path(output))),
        column=begun.head.column,
        retry_errors=retry_errors,
    )
    return BatchRun(settings, len(own), tuple(todo))


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  # keeps links, and drops ..
