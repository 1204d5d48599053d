"""What the fields of a manifest may hold."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
# One plain name: no folder, no parent, nothing that leaves the bundle.
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\Z", max_length=100)]
# Engines choose their parser by the suffix.
GraphName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,90}\.onnx\Z")]
# Display text: no control characters.
Text = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]+\Z", max_length=200)]
LARGEST_WIDTH: Final = 65536
"""Of features: far above any detector's, far below what would exhaust a machine's memory."""


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the manifest: immutable, without fields that this version does not know."""
