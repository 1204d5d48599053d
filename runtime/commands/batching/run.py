"""``glass-batch run``: judge the shards of a plan that have no part yet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import click

from ...judging.options import DetectorOptions
from ...machine.printable import printable
from ...machine.progress import Report
from ...machine.signals import ending_on_sigterm
from ...shards.cluster import ANY_CLUSTER, judge_on_cluster
from ...shards.judging import Outcome, ShardJudge
from ...shards.parts import Summary
from ...shards.plan import Plan
from ...shards.pool import counted
from ...shards.running import BatchRun, Share, begin_run
from ..console import GlassCommand
from ..inputs import chosen_bundle, settle_decoders
from ..judging import judging_options
from ..options import bundle_option, common_options
from ..progress import on_console
from .options import check_parquet, share

_EXAMPLES = """
\b
Examples:
  glass-batch run plan.jsonl -b gl_vit.glass -o out/
  glass-batch run plan.jsonl -b gl_vit.glass -o out/                 go on after a stop of any kind
  glass-batch run plan.jsonl -b gl_vit.glass -o out/ --share 2/8     the third of eight processes
  glass-batch run plan.jsonl -b gl_vit.glass -o out/ --retry-errors  images that were out of reach
  glass-batch run plan.jsonl -b /nfs/gl_vit.glass -o s3://bucket/out/ --ray       on a Ray cluster
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    short_help="Judge the shards that have no part yet.",
    help="Judge the shards of PLAN, one after the other. Each leaves a part in OUT, and a shard "
    "that has its part is not judged again: to go on after a stop of any kind, run the same "
    "command. A shard fails if none of its images can be read; the others go on.",
)
@click.argument("plan", metavar="PLAN")
@bundle_option("The bundle.")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    required=True,
    help="The folder, or the address of one on object storage, that takes the parts.",
)
@click.option(
    "--share",
    "my_share",
    type=share,
    metavar="I/N",
    help="Judge only share I of N, counted from 0: the shards whose number modulo N is I. For "
    "several processes with the same PLAN and OUT. Default: all shards.",
)
@click.option(
    "--ray",
    "cluster",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value=ANY_CLUSTER,
    help="Judge on the Ray cluster at ADDRESS, by default the one that this machine is part of or "
    "RAY_ADDRESS names (then --ray comes last): an actor on each machine, or for each GPU, with "
    "--workers CPUs each, by default those of the smallest machine. Bundle, images and OUT must "
    "be reachable from all of them.",
)
@click.option(
    "--retry-errors",
    is_flag=True,
    help="Judge again the shards in which some images could not be read.",
)
@click.option(
    "--strict", is_flag=True, help="Exit with 1 also if any image of this run has no verdict."
)
@judging_options
@common_options
@click.pass_context
def run(
    ctx: click.Context,
    plan: str,
    bundle: Path | None,
    output: str,
    my_share: Share | None,
    cluster: str | None,
    retry_errors: bool,
    strict: bool,
    judging: DetectorOptions,
) -> None:
    """Judge a plan; see ``glass-batch run --help``."""
    check_parquet()
    begun = begin_run(
        plan,
        bundle or chosen_bundle(None, Plan.at(plan).head.sources),
        output,
        judging,
        share=my_share,
        retry_errors=retry_errors,
    )
    if done := begun.own - len(begun.todo):
        _say(f"{done} of {begun.own} shards have their parts already.")
    with ending_on_sigterm(), on_console("judging") as report:
        if cluster is None:
            outcomes = _counted(_judged_here(begun, report))
        else:
            outcomes = _counted(_judged_on(cluster, begun, report))
    if any(each.part is None or (strict and each.part.errors) for each in outcomes):
        ctx.exit(1)


def _judged_here(run: BatchRun, report: Report) -> Iterator[Outcome]:
    """Judge shards in this process, one after the other."""
    if not run.todo:
        return
    judge = ShardJudge(run.settings)
    judge.open(on_console)  # what is wrong with it is wrong for every shard
    settle_decoders(run.settings.options.max_pixels)
    for count, shard in enumerate(run.todo):
        seen = partial(_report, report, count, len(run.todo), shard)
        try:
            yield judge.judge(shard, seen)
        except KeyboardInterrupt:
            _say(
                f"ended in shard {shard}, which is dropped if it has no part yet: run the same "
                "command to go on."
            )
            raise


def _judged_on(cluster: str, run: BatchRun, report: Report) -> Iterator[Outcome]:
    """Judge shards on a cluster."""
    if not run.todo:
        return
    shards = run.todo
    report(0, len(shards))
    images = 0
    outcomes = judge_on_cluster(
        run.settings, shards, cluster, lambda pool: _say(f"judging with {pool}.")
    )
    try:
        for count, outcome in enumerate(outcomes, 1):
            images += outcome.part.images if outcome.part else 0
            report(count, len(shards), f"{images} images")
            yield outcome
    except KeyboardInterrupt:
        _say("shards that have no part yet are dropped: run the same command to go on.")
        raise


def _counted(judged: Iterable[Outcome]) -> list[Outcome]:
    """Take what becomes of shards and say how it went, also if it is ended from outside."""
    outcomes: list[Outcome] = []
    started = time.perf_counter()
    try:
        for outcome in judged:
            outcomes.append(outcome)
            if outcome.error is not None:
                _say(f"shard {outcome.shard}: {' '.join(outcome.error.split())}")
    finally:
        if outcomes:
            _summarise(outcomes, time.perf_counter() - started)
    return outcomes


def _report(report: Report, done: int, total: int, shard: int, images: int) -> None:
    report(done, total, f"shard {shard}: {images} images")


def _summarise(outcomes: Sequence[Outcome], seconds: float) -> None:
    parts = [each.part for each in outcomes if each.part is not None]
    total, failed = Summary.of(parts), len(outcomes) - len(parts)
    failures = counted(failed, "shard")
    verdicts = "".join(f"{count} {name}, " for name, count in total.verdicts.items())
    engines = ", ".join(dict.fromkeys(f"{each.engine}, {each.precision}" for each in parts))
    _say(
        f"{counted(len(parts), 'shard')} with {counted(total.images, 'image')} in {seconds:.1f} s "
        f"({total.images / max(seconds, 1e-9):.1f} images/s): {verdicts}"
        f"{sum(total.errors.values())} errors{'; ' if engines else ''}{engines}"
        f"{f'; {failures} failed' if failed else ''}"
    )


def _say(text: str) -> None:
    click.echo(printable(text), err=True)
