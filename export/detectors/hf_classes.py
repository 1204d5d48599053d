"""Which class of a Hugging Face classifier means AI-generated: told from the classes' names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from ..errors import CheckpointError
from .registry import Classes

_FAKE = {
    *("fake", "fakes", "deepfake", "deepfakes", "deep", "ai", "aigc", "aigenerated", "artificial"),
    *("synthetic", "synthesized", "machine", "gan", "diffusion", "midjourney", "dalle", "sd"),
}
_REAL = {
    *("real", "realism", "human", "hum", "natural", "nature", "authentic", "genuine", "original"),
    *("photo", "photos", "photograph", "photographs", "camera"),
}
_MADE = {"generated"}  # by whom, other words may say
_NOT = {"not", "no", "non", "un"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def fake_of(names: tuple[str, str]) -> str | None:
    """Return the name that means AI-generated; ``None`` if that is not certain.

    It is if one name has words such as *fake*, *AI* or *synthetic*, the other has words such as
    *real*, *human* or *photo*, and neither has both.
    """
    said = [_says(name) for name in names]
    if sorted(each or "" for each in said) != ["fake", "real"]:
        return None
    return names[said.index("fake")]


def _says(name: str) -> Literal["fake", "real"] | None:
    words = {word.lower() for word in _WORD.findall(name)}
    fake, real = bool(words & _FAKE), bool(words & _REAL)
    if words & _NOT or (fake and real):
        return None
    if real:
        return "real"
    return "fake" if fake or words & _MADE else None


def classes_of(
    config: Mapping[str, Any], names: tuple[str, str] | None = None, fake: str | None = None
) -> Classes:
    """Read the two classes from a ``config.json``.

    Args:
        config: what it holds.
        names: the user's own, instead of those in the file.
        fake: which class means AI-generated; ``None`` tells it from the names.

    Raises:
        CheckpointError: it names no two classes, or not which of them means AI-generated.
    """
    names = names or _names(config.get("id2label"))
    fake = fake or fake_of(names)
    if fake is None:
        raise CheckpointError(
            f"the classes {names[0]!r} and {names[1]!r} do not tell for certain which one means "
            "AI-generated: give it with --fake-class, or name both with --classes."
        )
    return Classes(names, fake, "config.json")


def _names(labels: object) -> tuple[str, str]:
    if not isinstance(labels, Mapping) or not labels:
        raise CheckpointError(
            "config.json has no id2label, so its classes have no names: add id2label with the "
            "names of classes 0 and 1."
        )
    if len(labels) != 2:
        raise CheckpointError(
            f"config.json has {len(labels)} classes in id2label, and a detector has two: only "
            "classifiers of real and AI-generated images can be exported."
        )
    first, second = (labels.get(index) for index in ("0", "1"))
    if not (isinstance(first, str) and isinstance(second, str)) or first == second:
        raise CheckpointError(
            "id2label in config.json must give two different names to the classes 0 and 1: "
            "correct it."
        )
    return first, second
