"""Templates, styles and scripts of pages: files of the package that become one HTML file.

Templates take styles, scripts and data through the ``safe`` filter: they come from the package,
or are made safe by :func:`json_in_html`. All other text is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

from ..machine.errors import InputError
from ..machine.printable import printable

if TYPE_CHECKING:
    import jinja2

SHARED_STYLES = ("shared.css", "head.css")
SHARED_SCRIPTS = (
    *("text.js", "elements.js", "geometry.js", "urls.js", "drawing.js", "data.js", "history.js"),
    *("facts.js", "claims.js", "card.js", "picture.js", "crops.js", "detail.js", "downloads.js"),
)
"""What draws an image and its details and saves its record, in any page."""
_FOLDER = "files"
_JSON_IN_HTML = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_POLICY = (
    "default-src 'none'",
    "{loaded}",
    "style-src {style}",
    "script-src {script}",
    "base-uri 'none'",
    "form-action 'none'",
)


def asset(name: str) -> str:
    """Return the text of a file of the pages' folder, with line feeds at the ends of lines."""
    return (files(__package__) / _FOLDER / name).read_text(encoding="utf-8")


def joined_styles(names: Iterable[str]) -> str:
    """Return style sheets as one, in their order."""
    return "\n" + "\n".join(asset(name) for name in names)


def joined_scripts(names: Iterable[str]) -> str:
    """Return scripts as one, inside a function: they see each other, and the page none of them."""
    parts = "\n".join(asset(name) for name in names)
    return f'\n(() => {{\n"use strict";\n{parts}}})();\n'


def content_security_policy(style: str, script: str, loaded: str) -> str:
    """Return the policy by which a page runs one inline style sheet and one inline script.

    Nothing else runs, whatever the data of the page are, and nothing is loaded but what the
    directives ``loaded`` allow.
    """
    sources = {"style": _source(style), "script": _source(script)}
    return "; ".join(_POLICY).format(loaded=loaded, **sources)


def _source(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def json_in_html(value: Any) -> str:
    """Return a value as JSON that cannot end the ``<script>`` element it stands in."""
    text = msgspec.json.encode(value).decode()
    for character, escaped in _JSON_IN_HTML.items():
        text = text.replace(character, escaped)
    return text


def page_template(name: str, extra: str) -> jinja2.Template:
    """Return a template; what it does not know is an error, and what it is given is escaped.

    Args:
        name: of its file.
        extra: of the package, with which Jinja2 is installed for such a page.

    Raises:
        InputError: Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise InputError(
            f"a page needs Jinja2, which is not installed: pip install 'glass-edge[{extra}]'."
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "printable": printable,
        "thousands": "{:,}".format,
        "mebibytes": lambda size: f"{size / 2**20:.4g} MiB",
        "moment": lambda moment: f"{moment[:10]} {moment[11:16]} UTC",
    }
    return environment.get_template(name)
