"""The manifest of a bundle, ``glass.json``: everything the runtime must know.

The structures below are the schema: a file that does not fit them is refused with a
message that names the field.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from ..machine.errors import BundleError
from ..views.spec import ViewSpec
from .comparison import Comparison
from .fields import FileName, Positive, Sha256, Strict, Text
from .scores import DEFAULT_THRESHOLD, ScoreCalibration
from .stopping import Stopping
from .streams import AGGREGATOR, GraphEntry, Role, Stream, StreamName, misfit

MANIFEST_NAME = "glass.json"
SCHEMA_VERSION: Final = 3

Precision = Literal["fp32", "fp16", "bf16", "int8"]
Rest = Literal["fp32", "fp16"]
WhichWeights = Literal["ema", "raw"]


class FileEntry(Strict, frozen=True):
    """A file of the bundle and the SHA-256 of its bytes."""

    file: FileName
    sha256: Sha256


class CheckpointEntry(Strict, frozen=True):
    """What the bundle was made from: the file's name then, and the SHA-256 of its bytes.

    ``weights`` says whether the weights are an average over the training's steps (``ema``) or its
    last ones (``raw``); ``None`` in older bundles. ``both`` says whether the file also holds the
    others. ``notes`` are what else the user should know about them.
    """

    file: Text
    sha256: Sha256
    weights: WhichWeights | None = None
    both: bool = False
    notes: tuple[Text, ...] = ()


class Normalisation(Strict, frozen=True):
    """``(x - mean) / std`` per RGB channel on values in [0, 1]; the graphs contain it.

    ``source`` says whose it is: the paper's, timm's or the user's.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: Text

    def __str__(self) -> str:
        mean, std = (", ".join(map(str, values)) for values in (self.mean, self.std))
        return f"mean {mean}, standard deviation {std} ({self.source})"


class Backbone(Strict, frozen=True):
    """Which network looks at the views, and what engines and INT8 must know of it.

    ``shared``: one set of weights serves several streams. ``fixed_batch``: an engine that computes
    batches of one size faster than batches of any size should do so. ``quantise_residuals``:
    INT8 may round the inputs of residual sums.
    """

    name: Text
    family: Text
    shared: bool
    fixed_batch: bool
    quantise_residuals: bool


class DetectorEntry(Strict, frozen=True):
    """Which detector this is, and who says how it is used.

    ``preset`` names the way in which its images become views, and ``preset_source`` says where
    that is written; ``classes_source`` says who tells what its logits mean.
    """

    family: Text
    title: Text
    preset: Text
    preset_source: Text
    classes_source: Text


class Parity(Strict, frozen=True):
    """What the export measured against PyTorch on real views.

    The errors are the largest absolute differences seen, as shares: of the largest logit or of 1
    for ``logit_error``, and of the largest feature or of 1 for ``duplicate_error``, which is
    between equal rows of one batch. Attention weights lie between 0 and 1. ``map_error``, a share
    of the largest score or of 1, is that of the maps by which one stream guides another.
    """

    tolerance: float
    images: int
    batch_sizes: tuple[int, ...]
    logit_error: float
    attention_error: float
    duplicate_error: float
    map_error: float | None = None


class OwnModel(Strict, frozen=True):
    """What the export measured against logits that the user's own model gave.

    ``file`` and ``sha256`` describe the file of these logits. ``inputs`` is the number of images.
    ``logit_error`` is measured as in :class:`Parity`, and was within the same tolerance.
    """

    file: Text
    sha256: Sha256
    inputs: Positive
    logit_error: float


class Calibration(Strict, frozen=True):
    """From which images an INT8 bundle's ranges come, and how they were chosen.

    ``data`` is the SHA-256 over the images' hashes; ``methods`` has the way chosen for each
    backbone graph; ``notes`` say what the user should know of the images.
    """

    images: Positive
    data: Sha256
    methods: dict[str, str]
    notes: tuple[str, ...] = ()


class Reference(Strict, frozen=True):
    """Views that travel with the bundle, and what they must give: the self-test.

    ``file`` is a lossless picture of the views: one row for each image, with the views of one
    stream after the other. A stream that may have several has ``crops`` of them; it is 0 if there
    is none. ``logits`` are those of each row, in the order of the classes, as ``source`` computed
    them.
    """

    file: FileName
    sha256: Sha256
    crops: Annotated[int, msgspec.Meta(ge=0, le=16)]
    logits: Annotated[tuple[tuple[float, float], ...], msgspec.Meta(min_length=1, max_length=16)]
    source: Text


class Manifest(Strict, frozen=True):
    """The content of ``glass.json``.

    ``rest`` is the type of what an INT8 bundle leaves in floating point. ``parity`` compares
    the FP32 graphs with the PyTorch model that the export built from the checkpoint's keys,
    ``own_model`` with the user's, ``comparison`` this bundle with those graphs; ``kept`` names
    the nodes of each graph that stayed in a higher type than others of their kind because their
    range or their sensitivity asked for it. ``reference`` is what the self-test judges.
    ``stopping`` and ``scores`` are what ``glass-calibrate`` adds.
    """

    schema: Literal[3]
    precision: Precision
    classes: tuple[Text, Text]
    fake_class: Text
    detector: DetectorEntry
    backbone: Backbone
    normalisation: Normalisation
    opset: Positive
    streams: Annotated[dict[StreamName, Stream], msgspec.Meta(min_length=1, max_length=4)]
    aggregator: GraphEntry | None
    weights: tuple[FileEntry, ...]
    checkpoint: CheckpointEntry
    versions: dict[str, str]
    reference: Reference
    parity: Parity | None = None  # None only while the export is still measuring
    calibration: Calibration | None = None
    comparison: Comparison | None = None
    kept: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    rest: Rest | None = None  # None for other precisions
    own_model: OwnModel | None = None  # None unless the user gave its logits
    stopping: Stopping | None = None
    scores: ScoreCalibration | None = None

    @property
    def roles(self) -> tuple[Role, ...]:
        """The graphs' parts: the streams by their names, and the aggregator if there is one."""
        return (*self.streams, AGGREGATOR) if self.aggregator else (*self.streams,)

    def graph(self, role: Role) -> GraphEntry:
        """Return a graph's entry."""
        if role == AGGREGATOR and self.aggregator is not None:
            return self.aggregator
        return self.streams[role].graph

    @property
    def views(self) -> ViewSpec:
        """How an image becomes the views of every stream."""
        return ViewSpec({name: stream.views for name, stream in self.streams.items()})

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """Every file of the bundle but the manifest, with its SHA-256."""
        graphs = map(self.graph, self.roles)
        entries: tuple[GraphEntry | FileEntry | Reference, ...]
        entries = (*graphs, *self.weights, self.reference)
        return tuple((entry.file, entry.sha256) for entry in entries)

    @property
    def threshold(self) -> float:
        """P(fake) from which an image is called fake unless the user says otherwise."""
        if self.scores is not None:
            return self.scores.threshold
        return DEFAULT_THRESHOLD if self.stopping is None else self.stopping.threshold

    @property
    def temperature(self) -> float:
        """What logits are divided by before they become probabilities."""
        return 1.0 if self.scores is None else self.scores.temperature

    @property
    def types(self) -> str:
        """The types that the graphs are written in, as reports and people read them."""
        return f"{self.precision} and fp16" if self.rest == "fp16" else self.precision

    @property
    def fake_index(self) -> int:
        """Position of the fake class among the logits."""
        return self.classes.index(self.fake_class)

    def encode(self) -> bytes:
        """Return the file's bytes: indented JSON, stable key order."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def parse_manifest(content: bytes) -> Manifest:
    """Parse and check the bytes of ``glass.json``.

    Raises:
        BundleError: not JSON, another schema version, or a field that does not fit.
    """
    try:
        fields = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{MANIFEST_NAME} is not valid JSON: {error}.") from None
    version = fields.get("schema") if isinstance(fields, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{MANIFEST_NAME} has schema version {version!r}, and this glass-edge reads version "
            f"{SCHEMA_VERSION}: export the bundle again, or install a release that reads it."
        )
    try:
        manifest = msgspec.convert(fields, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"{MANIFEST_NAME} does not fit its schema: {error}.") from None
    _check_consistency(manifest)
    return manifest


def _check_consistency(manifest: Manifest) -> None:
    if manifest.parity is None:
        raise BundleError(f"{MANIFEST_NAME} holds no parity measurement: its export never ended.")
    if manifest.fake_class not in manifest.classes or len(set(manifest.classes)) != 2:
        raise BundleError(
            f"{MANIFEST_NAME} names the classes {list(manifest.classes)} and "
            f"{manifest.fake_class!r} as the fake one: two different classes are needed, "
            "one of them the fake one."
        )
    if (manifest.reference.crops > 0) != (manifest.views.several is not None):
        raise BundleError(
            f"{MANIFEST_NAME}: the reference has {manifest.reference.crops} views of a stream of "
            "several, which does not fit its streams; export the bundle again."
        )
    if manifest.stopping is not None and manifest.stopping.fault is not None:
        raise BundleError(f"{MANIFEST_NAME} has a stopping rule with {manifest.stopping.fault}.")
    stopping, scores = manifest.stopping, manifest.scores
    if stopping is not None and scores is not None and stopping.threshold != scores.threshold:
        raise BundleError(
            f"{MANIFEST_NAME} has a stopping rule for a threshold of {stopping.threshold:g}, and "
            f"calls an image fake from {scores.threshold:g}."
        )
    if (fault := misfit(manifest.streams, manifest.aggregator)) is not None:
        raise BundleError(f"{MANIFEST_NAME}: {fault}; export the bundle again.")
