"""The options of ``glass-run``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from ...images.encoded import DEFAULT_MAX_PIXELS, SIXTEEN_BIT
from ...judging.options import DEFAULT_BATCH_SIZE, MODES
from ...results.resume import Retry
from ...streaming.view_maker import DEFAULT_MEMORY
from ..options import (
    CropsChoice,
    bundle_option,
    device_option,
    engine_folder_option,
    engine_option,
    force_option,
    list_skipped_option,
    threshold_option,
)

_Function = TypeVar("_Function", bound=Callable[..., Any])

_OPTIONS = (
    click.argument("paths", metavar="PATH...", nargs=-1),
    bundle_option("The bundle."),
    click.option(
        "--bundle-sha256",
        metavar="DIGEST",
        help="Refuse any other bundle than the one whose glass.json has this SHA-256.",
    ),
    click.option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write records to FILE (.jsonl or .csv); - for JSON lines on stdout. Default: a "
        "table.",
    ),
    force_option("FILE"),
    click.option(
        "--resume",
        is_flag=True,
        help="Go on with FILE (.jsonl) after a stop of any kind: what it holds is not judged "
        "again, unless an image has changed or could not be read. Bundle, options and engine must "
        "be the same.",
    ),
    click.option(
        "--retry-errors",
        type=click.Choice(get_args(Retry)),
        default="read",
        show_default=True,
        help="With --resume, which images with an error are tried again: those whose file could "
        "not be read, all, or none.",
    ),
    click.option(
        "--add-bom",
        is_flag=True,
        help="Begin FILE (.csv) with a byte-order mark, without which Excel misreads names that "
        "are not ASCII.",
    ),
    click.option(
        "-0",
        "--null",
        is_flag=True,
        help="Paths on standard input end with NULs, as find -print0 writes them, not with line "
        "ends.",
    ),
    list_skipped_option,
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
        "--report",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Write a page (.html) that shows the images, their crops and what each crop did.",
    ),
    click.option(
        "--influence",
        is_flag=True,
        help="Add to records by how much each crop moved P(fake); --report does so, too.",
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
    click.option(
        "--timings", is_flag=True, help="Show where the time went, and what bounds the run."
    ),
    click.option("--strict", is_flag=True, help="Exit with 1 if any image could not be judged."),
    click.option(
        "--self-test",
        "tested",
        is_flag=True,
        help="First compare the engine with the bundle's reference views, and print the figures; "
        "without PATH only that.",
    ),
)


def run_options(function: _Function) -> _Function:
    """Add the paths to judge and every option that is ``glass-run``'s own."""
    for each in reversed(_OPTIONS):
        function = each(function)
    return function
