"""How images are judged, as options of commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from ..claims.claims import ClaimOptions
from ..claims.reading import read_trust_list
from ..images.encoded import DEFAULT_MAX_PIXELS, SIXTEEN_BIT
from ..judging.options import DEFAULT_BATCH_SIZE, MODES, SEED_KEY, DetectorOptions
from ..machine.errors import InputError
from ..streaming.view_maker import DEFAULT_MEMORY
from .console import check_libraries
from .options import (
    CropsChoice,
    device_option,
    engine_folder_option,
    engine_option,
    threshold_option,
)

_Function = TypeVar("_Function", bound=Callable[..., Any])

_OPTIONS = (
    threshold_option,
    click.option(
        "--crops",
        type=CropsChoice(),
        metavar="N|auto",
        help="Crops per image, up to 1024; or auto for as many as its verdict needs, which takes a "
        "bundle made by glass-calibrate. Default: the bundle's number.",
    ),
    click.option(
        "--seed",
        type=int,
        default=0,
        show_default=True,
        help="The run's seed. It places the crops, together with the image's pixels and the secret "
        "in the environment variable GLASS_SEED_KEY, if that is set.",
    ),
    click.option(
        "--fixed-seed",
        type=int,
        metavar="SEED",
        help="Use this generator seed for every image, as the reference's tests do.",
    ),
    engine_option,
    device_option,
    engine_folder_option,
    click.option(
        "--mode",
        type=click.Choice(MODES),
        default=MODES[0],
        show_default=True,
        help="The most images a second, or each image as soon as can be, one at a time.",
    ),
    click.option(
        "--batch-size",
        type=int,
        default=DEFAULT_BATCH_SIZE,
        show_default=True,
        help="The most views given to the engine at once.",
    ),
    click.option(
        "--threads",
        type=int,
        default=0,
        help="CPU threads of one run of the engine. Default: 1, and as many runs at once as CPUs; "
        "in latency mode all.",
    ),
    click.option(
        "--workers",
        type=int,
        default=0,
        help="Threads that decode and, on a CPU, judge. Default: one per CPU.",
    ),
    click.option(
        "--memory",
        metavar="MIB",
        type=click.IntRange(min=1),  # here, because DetectorOptions counts bytes
        default=DEFAULT_MEMORY >> 20,
        show_default=True,
        help="MiB that decoded images may take at once.",
    ),
    click.option(
        "--max-pixels",
        type=int,
        default=DEFAULT_MAX_PIXELS,
        show_default=True,
        help="Refuse larger images.",
    ),
    click.option(
        "--allow-damaged",
        is_flag=True,
        help="Judge images of which a part is missing, instead of refusing them; their records say "
        "damaged: true.",
    ),
    click.option(
        "--sixteen-bit",
        type=click.Choice(SIXTEEN_BIT),
        default=SIXTEEN_BIT[0],
        show_default=True,
        help="Grey values of more than 8 bits: clip them at 255, as training did, or scale them to "
        "8 bits. If clipping leaves nothing of an image, it is an error.",
    ),
    click.option(
        "--isolate",
        is_flag=True,
        help="Decode in processes of their own: a file that crashes an image library is a record, "
        "not the end of the run. Slower.",
    ),
    click.option(
        "--influence",
        is_flag=True,
        help="Add to records by how much each crop moved P(fake).",
    ),
    click.option(
        "--provenance",
        is_flag=True,
        help="Add to records what each file says of its origin. It has no part in the verdict.",
    ),
    click.option(
        "--trust-list",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="With --provenance, certificates (PEM) of whose holders content credentials are "
        "called trusted. Default: none are.",
    ),
)


def judging_options(function: _Function) -> _Function:
    """Add what says how images are judged; the command is given it as ``judging``."""

    @wraps(function)
    def collected(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in names}
        return function(*args, judging=_options_of(**given), **kwargs)

    for each in reversed(_OPTIONS):
        each(collected)
    parameters = vars(collected)["__click_params__"]  # which click appends to, each time
    names = [parameter.name for parameter in parameters[-len(_OPTIONS) :]]
    return collected  # type: ignore[return-value]  # click's decorators keep no types either


def _options_of(
    *, memory: int, provenance: bool, trust_list: Path | None, engine_dir: Path | None, **same: Any
) -> DetectorOptions:
    """Return options of a command as options of a detector.

    Raises:
        InputError: a value is impossible.
    """
    return DetectorOptions(
        memory=memory << 20,
        claims=_claim_options(trust_list, provenance=provenance),
        engine_folder=engine_dir,
        seed_key=os.environ.get(SEED_KEY, ""),
        **same,
    )


def _claim_options(trust_list: Path | None, *, provenance: bool) -> ClaimOptions:
    """Say what files are asked of their origin.

    Raises:
        InputError: a trust list without ``provenance``, or one that cannot be used.
    """
    if trust_list is None:
        return ClaimOptions(provenance=provenance)
    if not provenance:
        raise InputError(
            "--trust-list says whom to trust of those that --provenance names: give both."
        )
    check_libraries("--trust-list", ("c2pa",), extra="provenance", reports=())
    return ClaimOptions(provenance=True, trust_list=read_trust_list(trust_list))
