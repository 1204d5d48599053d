"""The page for people: they choose pictures, and see the server's verdicts on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal

import msgspec

from ..bundle.model_card import weaknesses
from ..judging.detector import Detector
from ..judging.options import AUTO_CROPS
from ..judging.settling import stopping_rule
from ..machine.errors import InputError
from ..pages.assets import (
    SHARED_SCRIPTS,
    SHARED_STYLES,
    content_security_policy,
    joined_scripts,
    joined_styles,
    json_in_html,
    page_template,
)

_TEMPLATE = "upload.html.jinja"
_STYLES = (*SHARED_STYLES, "upload.css")
_SCRIPTS = (
    *SHARED_SCRIPTS,
    *("orientation.js", "sending.js", "upload_card.js", "uploads.js", "upload.js"),
)
_LOADED = "img-src blob: data:; connect-src 'self'"
_FRAMED = "frame-ancestors 'none'"  # which browsers heed in the header alone


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the page says of the server and goes by.

    Attributes:
        bundle: what records call the bundle.
        digest: SHA-256 of the bundle's manifest.
        detector: the detector's name.
        engine, precision: what executes the graphs, and the type that it computes in.
        fake_class, real_class: the classes' names.
        threshold: P(fake) from which an image is called fake.
        views: how an image becomes what the detector looks at.
        crops: how many crops of an image are drawn; ``auto`` for as many as its verdict needs,
            ``None`` where none are drawn.
        auto: whether a request may ask for ``auto`` crops.
        provenance: whether content credentials can be read.
        max_bytes: larger files are refused.
        limits: what a verdict is not, each a sentence.
    """

    bundle: str
    digest: str
    detector: str
    engine: str
    precision: str
    fake_class: str
    real_class: str
    threshold: float
    views: str
    crops: int | Literal["auto"] | None
    auto: bool
    provenance: bool
    max_bytes: int
    limits: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """A page as UTF-8, and the policy to send with it as ``Content-Security-Policy``."""

    html: bytes
    policy: str


def facts_of(detector: Detector, max_bytes: int) -> Facts:
    """Return what the page says of a detector.

    Args:
        detector: that judges.
        max_bytes: larger files are refused.
    """
    bundle = detector.bundle
    manifest = bundle.manifest
    crops = detector.options.crops or manifest.views.num_crops
    return Facts(
        bundle=bundle.name,
        digest=bundle.digest,
        detector=manifest.detector.title,
        engine=detector.engine,
        precision=detector.precision,
        fake_class=manifest.fake_class,
        real_class=manifest.classes[1 - manifest.fake_index],
        threshold=detector.threshold,
        views=str(manifest.views),
        crops=crops if manifest.views.drawn else None,
        auto=_can_choose(detector),
        provenance=find_spec("c2pa") is not None,
        max_bytes=max_bytes,
        limits=weaknesses(drawn=manifest.views.drawn)[1:],  # the page begins with the first
    )


def _can_choose(detector: Detector) -> bool:
    """Whether the number of crops can be chosen image by image."""
    try:
        stopping_rule(replace(detector.options, crops=AUTO_CROPS), detector.bundle)
    except InputError:
        return False
    return True


def render_page(facts: Facts) -> Page:
    """Return the page, which holds all its styles and scripts and asks nobody but its own server.

    Raises:
        InputError: Jinja2 is not installed.
    """
    style, script = joined_styles(_STYLES), joined_scripts(_SCRIPTS)
    policy = content_security_policy(style, script, _LOADED)
    html = page_template(_TEMPLATE, "serve").render(
        head=facts,
        policy=policy,
        style=style,
        script=script,
        data_json=json_in_html(facts),
    )
    return Page(html.encode(), f"{policy}; {_FRAMED}")
