"""What is counted, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from ..judging.desk import Answer
from ..judging.detector import Detector
from ..machine.timings import Timings
from ..results.records import Verdict
from .admission import Admission

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)
ERROR = "error"
"""The outcome of an image without a verdict."""


class Metrics:
    """Counters of one server."""

    def __init__(self, detector: Detector, admission: Admission, timings: Timings) -> None:
        """Read gauges from ``admission`` and the stages' seconds from ``timings`` when asked."""
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "glass_requests", "Requests answered.", ["route", "code"], registry=registry
        )
        self._request_seconds = Histogram(
            "glass_request_seconds",
            "From a request's head to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._images = Counter(
            "glass_images", "Images answered, by class or error.", ["outcome"], registry=registry
        )
        self._image_seconds = Histogram(
            "glass_image_seconds",
            "An image's way: waiting, its views, waiting for the engine, being judged.",
            ["part"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._together = Histogram(
            "glass_batch_images",
            "With how many images, itself counted, an image was given to the engine.",
            buckets=_BATCHES,
            registry=registry,
        )
        for name, text, read in (
            ("images", "Images that wait or are being judged.", lambda: admission.images),
            ("bytes", "Bytes of requests held.", lambda: admission.size),
        ):
            Gauge(f"glass_queue_{name}", text, registry=registry).set_function(read)
        registry.register(_Stages(timings))
        Info("glass_detector", "What judges.", registry=registry).info(
            {
                "bundle": detector.bundle.name,
                "digest": detector.bundle.digest,
                "engine": detector.engine,
                "precision": detector.precision,
            }
        )
        for name in (*detector.bundle.manifest.classes, ERROR):
            self._images.labels(name)

    def count_request(self, route: str, code: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(route, code).inc()
        self._request_seconds.labels(route).observe(seconds)

    def count_images(self, answers: Iterable[Answer]) -> None:
        """Count what became of images."""
        for answer in answers:
            record = answer.record
            outcome = record.verdict if isinstance(record, Verdict) else ERROR
            self._images.labels(outcome).inc()
            for part, seconds in answer.seconds.items():
                self._image_seconds.labels(part).observe(seconds)
            if answer.together:
                self._together.observe(answer.together)

    def text(self) -> bytes:
        """Return everything as Prometheus reads it."""
        return generate_latest(self._registry)


class _Stages(Collector):
    """Seconds that threads spent in each stage, as ``glass-run --timings`` shows them."""

    def __init__(self, timings: Timings) -> None:
        self._timings = timings

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "glass_stage_seconds", "Seconds of all threads by stage.", labels=["stage"]
        )
        for stage, seconds in self._timings.seconds.items():
            family.add_metric([stage], seconds)
        yield family
