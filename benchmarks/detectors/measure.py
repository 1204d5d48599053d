"""Measures bundles of a one-view detector beside the script that its users run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ...runtime.bundle.bundle import Bundle
from ...runtime.judging.options import DetectorOptions
from ...runtime.machine.environment import environment
from ..contenders.turns import check_takes_part, in_turns, opening
from ..measuring.process import OwnProcess
from ..measuring.report import SCHEMA_VERSION
from ..measuring.samples import Refusal, Samples
from .judged import BundleRunner, Judge, Judged
from .report import DetectorReport, DetectorResult
from .script import Script, ScriptRunner


def measure_detector(
    script: Script,
    bundles: Sequence[Bundle],
    engine: str,
    paths: Sequence[str],
    rounds: int,
    *,
    command: str,
) -> DetectorReport:
    """Let the script, in FP32 and in BF16, and bundles judge images in turns.

    Args:
        script: in FP32.
        bundles: made of its checkpoint.
        engine: of the bundles.
        paths: image files; all must be readable.
        rounds: rounds that count; one more warms up.
        command: what the report says it was made by.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        EngineError: the script cannot run here.
        ImageError: an image cannot be judged.
        InputError: it is no detector of one view.
    """
    half = replace(script, half=True)
    refusals: list[Refusal] = []
    with ExitStack() as stack:
        runners: dict[str, OwnProcess[Judge]] = {}
        for each in (script, half):
            with opening(each.name, refusals, stack) as opened:
                process: OwnProcess[Judge] = OwnProcess(each.name, ScriptRunner, each)
                runners[each.name] = opened.enter_context(process)
        options = DetectorOptions(
            engine=engine, batch_size=script.batch_size, workers=script.workers
        )
        for bundle in bundles:
            with opening(bundle.name, refusals, stack) as opened:
                served: OwnProcess[Judge] = OwnProcess(bundle.name, BundleRunner, bundle, options)
                runners[bundle.name] = opened.enter_context(served)
        check_takes_part([script.name], refusals)
        members = [*runners.values()]
        rows = in_turns(members, lambda each: _judge(each, paths), rounds + 1, "judging")
    expected = np.array(rows[0][0].scores)
    manifest = bundles[0].manifest
    return DetectorReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        detector=manifest.backbone.name,
        views=str(manifest.views),
        images=len(paths),
        batch_size=script.batch_size,
        threads=script.threads,
        workers=script.workers,
        rounds=rounds,
        results=tuple(
            _result(name, judged, expected, script=name in (script.name, half.name))
            for name, judged in zip(runners, rows, strict=True)
        ),
        refusals=tuple(refusals),
    )


def _judge(runner: OwnProcess[Judge], paths: Sequence[str]) -> Judged:
    return runner.ask(Judge.judge, paths)


def _result(
    name: str, judged: Sequence[Judged], expected: npt.NDArray[np.float64], *, script: bool
) -> DetectorResult:
    first = judged[0]  # the round that warms up
    return DetectorResult(
        name=name,
        engine=first.engine,
        precision=first.precision,
        seconds=Samples(tuple(each.seconds for each in judged[1:])),
        difference=float(np.abs(np.array(first.scores) - expected).max()),
        script=script,
    )
