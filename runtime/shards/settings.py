"""What a batch run was begun with: all that changes its verdicts, so that no other run mixes in."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from ..bundle.bundle import Bundle
from ..images.encoded import SixteenBit
from ..judging.options import DetectorOptions
from ..machine.errors import InputError
from ..storage.folders import Folder
from .parts import has_parts
from .plan import Plan

VERSION = 1
RUN_NAME, PLAN_NAME = "run.json", "plan.jsonl"
_SHOWN = 3  # sources of a plan, in a message


class RunSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the verdicts of a batch run follow from; the content of ``run.json``.

    ``plan`` and ``bundle_sha256`` are digests, and ``seed_key`` is the start of one: the secret
    itself is written nowhere. ``classes`` are the bundle's, ``trust_list`` is its digest.
    """

    glass_batch: int = VERSION
    plan: str
    bundle: str
    bundle_sha256: str
    classes: tuple[str, str]
    crops: int | Literal["auto"] | None
    seed: int
    fixed_seed: int | None
    seed_key: str | None
    threshold: float | None
    max_pixels: int
    allow_damaged: bool
    sixteen_bit: SixteenBit
    influence: bool
    provenance: bool
    trust_list: str | None

    @classmethod
    def of(cls, plan: Plan, bundle: Bundle, options: DetectorOptions) -> RunSettings:
        """Return the settings of a run that judges a plan's images with a bundle."""
        return cls(
            plan=plan.digest,
            bundle=bundle.name,
            bundle_sha256=bundle.digest,
            classes=bundle.manifest.classes,
            crops=options.crops,
            seed=options.seed,
            fixed_seed=options.fixed_seed,
            seed_key=_key_digest(options.seed_key),
            threshold=options.threshold,
            max_pixels=options.max_pixels,
            allow_damaged=options.allow_damaged,
            sixteen_bit=options.sixteen_bit,
            influence=options.influence,
            provenance=options.claims.provenance,
            trust_list=options.claims.trust_digest,
        )


def begin(folder: Folder, plan: Plan, settings: RunSettings) -> Plan:
    """Begin a run in a folder, or go on with the one that was begun there with the same settings.

    Any number of processes may begin the same run at once.

    Returns:
        The folder's own copy of the plan.

    Raises:
        InputError: the run there has other settings, or the plan is damaged.
        OutputError: nothing can be written there.
    """
    names = set(folder.names())
    if PLAN_NAME not in names:
        plan.check()
    if not folder.put_new(RUN_NAME, msgspec.json.encode(settings) + b"\n"):
        _check_same(folder, plan, settings)
    if PLAN_NAME not in names:
        with tempfile.TemporaryDirectory(prefix="glass-") as scratch:
            copy = Path(scratch, PLAN_NAME)
            plan.copy(copy)
            folder.put(PLAN_NAME, copy)
    return plan_of(folder, settings)


def settings_of(folder: Folder) -> RunSettings:
    """Return what the run in a folder was begun with.

    Raises:
        InputError: none was begun there, or by another version.
    """
    if RUN_NAME not in folder.names():
        raise InputError(
            f"{folder.address} holds no run of glass-batch: name the folder that was given to "
            "glass-batch run -o."
        )
    with folder.open(RUN_NAME) as file:
        content = file.read()
    try:
        return msgspec.json.decode(content, type=RunSettings)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InputError(
            f"{RUN_NAME} in {folder.address} is damaged or of another version of glass-edge: go "
            "on with that version, or choose another folder."
        ) from None


def plan_of(folder: Folder, settings: RunSettings) -> Plan:
    """Return the copy of the plan in a run's folder.

    Raises:
        InputError: it is missing, damaged or another.
    """
    plan = Plan.within(folder, PLAN_NAME)
    if plan.digest != settings.plan:
        raise InputError(
            f"{plan.address} is not the plan that the run in {folder.address} was begun with: "
            "remove it, and run glass-batch run with the right one."
        )
    return plan


def _check_same(folder: Folder, plan: Plan, settings: RunSettings) -> None:
    """Refuse to mix two runs.

    Raises:
        InputError: the one in the folder was begun with other settings.
    """
    begun = settings_of(folder)
    if begun.plan != settings.plan:
        raise InputError(
            f"{plan.address} is another plan than the run in {folder.address} was begun with"
            f"{_sources_of(folder, begun)}: give that one, or choose another folder."
        )
    different = ", ".join(_differences(begun, settings))
    if different:
        kept = "Give what it was begun with"
        advice = kept if has_parts(folder) else f"It has judged nothing: remove its {RUN_NAME}"
        raise InputError(
            f"the run in {folder.address} was begun with other options: {different}. {advice}, or "
            "choose another folder."
        )


def _sources_of(folder: Folder, begun: RunSettings) -> str:
    """Say what the plan in a folder was made of, if it is there."""
    try:
        sources = plan_of(folder, begun).head.sources
    except InputError:
        return ""
    more = f" and {len(sources) - _SHOWN} more" if len(sources) > _SHOWN else ""
    return f", which was made of {', '.join(sources[:_SHOWN])}{more}"


def _differences(begun: RunSettings, now: RunSettings) -> Iterator[str]:
    """Yield what differs, in the words of options."""
    if begun.bundle_sha256 != now.bundle_sha256:
        yield f"--bundle {begun.bundle} (now {now.bundle})"
    for name in RunSettings.__struct_fields__:
        one, other = getattr(begun, name), getattr(now, name)
        if one == other or name in ("plan", "bundle", "bundle_sha256", "classes"):
            continue
        if name == "seed_key":
            yield "another GLASS_SEED_KEY"
        elif name == "trust_list":
            yield "another --trust-list"
        else:
            yield f"--{name.replace('_', '-')} {_shown(one)} (now {_shown(other)})"


def _shown(value: object) -> str:
    return "not given" if value is None else str(value).lower()


def _key_digest(key: str) -> str | None:
    """Return the start of a digest of a secret, by which only an equal one is told."""
    return hashlib.sha256(b"glass-batch" + os.fsencode(key)).hexdigest()[:8] if key else None
