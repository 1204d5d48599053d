"""Stub."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .model import Report


def render_page(report: Report) -> Iterator[str]:
    yield msgspec.json.encode(report).decode()
