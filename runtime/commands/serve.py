"""``glass-serve``: judge images that are sent over HTTP."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import click

from ..bundle.bundle import Bundle
from ..judging.detector import Detector
from ..judging.options import DetectorOptions
from ..machine.errors import InputError
from ..machine.printable import printable
from .console import GlassCommand, needing_libraries
from .inputs import chosen_bundle, settle_decoders
from .judging import judging_options
from .options import common_options
from .progress import on_console

_EXAMPLES = """
\b
Examples:
  glass-serve gl_vit.glass                     http://127.0.0.1:8000, for people and for programs
  curl -T photo.jpg -X POST -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/v1/judge
  curl -F file=@photo.jpg 'http://127.0.0.1:8000/v1/judge?crops=8'
  glass-serve gl_vit.glass --host 0.0.0.0 --port 80 --isolate --no-page
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Serve BUNDLE over HTTP: images come in, and records go out; people find a page at /. "
    "There is no encryption and no password: let only a proxy that has both reach it from a "
    "network. Requests are written to standard output, a line of JSON each.",
)
@click.argument("bundle", metavar="[BUNDLE]", type=click.Path(path_type=Path), required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The port; 0 takes a free one.",
)
@click.option(
    "--bundle-sha256",
    metavar="DIGEST",
    help="Refuse any other bundle than the one whose glass.json has this SHA-256.",
)
@click.option(
    "--max-bytes",
    metavar="MIB",
    type=click.IntRange(1, 1024),
    default=64,
    show_default=True,
    help="The largest request in MiB.",
)
@click.option(
    "--max-queue",
    metavar="N",
    type=click.IntRange(1, 100_000),
    default=64,
    show_default=True,
    help="Images that wait or are being judged, at most; more are refused with 503.",
)
@click.option(
    "--max-queue-bytes",
    metavar="MIB",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="MiB of requests held at once, at most.",
)
@click.option(
    "--max-crops",
    metavar="N",
    type=click.IntRange(1, 1024),
    default=64,
    show_default=True,
    help="Crops that a request may ask for, at most.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 3600),
    default=30.0,
    show_default=True,
    help="How long a request that was received may take.",
)
@click.option(
    "--drain-delay",
    metavar="SECONDS",
    type=click.FloatRange(0, 3600),
    default=5.0,
    show_default=True,
    help="After SIGTERM, go on for so long, not ready, before no connection is accepted.",
)
@click.option(
    "--grace",
    metavar="SECONDS",
    type=click.IntRange(1, 3600),
    default=30,
    show_default=True,
    help="Then, how long what is in flight may take to end.",
)
@click.option("--page/--no-page", default=True, show_default=True, help="The page for people at /.")
@judging_options
@common_options
def main(
    bundle: Path | None,
    host: str,
    port: int,
    bundle_sha256: str | None,
    max_bytes: int,
    max_queue: int,
    max_queue_bytes: int,
    max_crops: int,
    timeout: float,
    drain_delay: float,
    grace: int,
    page: bool,
    judging: DetectorOptions,
) -> None:
    """Serve a bundle; see ``glass-serve --help``."""
    with needing_libraries("glass-serve", extra="serve"):
        from ..serving.lines import Lines
        from ..serving.options import ServingOptions
        from ..serving.server import address_of, bound, serve
        from ..serving.service import Service
    options = ServingOptions(
        max_bytes=max_bytes << 20,
        max_queue=max_queue,
        max_queue_bytes=max_queue_bytes << 20,
        max_crops=max_crops,
        timeout=timeout,
        drain_delay=drain_delay,
        grace=grace,
        page=page,
    )
    if isinstance(judging.crops, int) and judging.crops > max_crops:
        raise InputError(
            f"--crops {judging.crops} is more than the {max_crops} that requests may ask for: "
            "raise --max-crops."
        )
    with bound(host, port) as listener:
        opened = Bundle.open(chosen_bundle(bundle, option=None), bundle_sha256)
        detector = Detector(opened, judging, on_console)
        settle_decoders(judging.max_pixels)
        service = Service(detector, options)
        lines = Lines(_output())
        try:
            service.try_out()
            greeting = _greeting(address_of(listener), detector)
            lost = serve(service, listener, lines, partial(click.echo, greeting, err=True))
            if lost:
                click.echo(f"{lost} requests were not answered within the grace.", err=True)
                lines.close()
                os._exit(1)  # without waiting for what is being computed for them
        finally:
            service.close()
            lines.close()


def _output() -> int:
    """Return the descriptor of standard output; where there is none, one that leads nowhere."""
    return os.open(os.devnull, os.O_WRONLY) if sys.stdout is None else sys.stdout.fileno()


def _greeting(address: str, detector: Detector) -> str:
    return printable(
        f"serving bundle {detector.bundle.name} by {detector.engine} ({detector.precision}) at "
        f"{address}; Ctrl-C ends it"
    )
