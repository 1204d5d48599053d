"""What a run of the benchmark measures, and what the costs are multiplied by."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

_SECONDS = 3600  # of an hour
_HOURS = 24  # of a day
_MILLION = 1_000_000


class Budget(msgspec.Struct, frozen=True):
    """What is asked of a collection.

    Attributes:
        price: dollars that a CPU costs for an hour.
        images: of the whole collection.
        machines: that share it.
        cpus: of each machine.
    """

    price: float = 0.04
    images: int = 100_000_000
    machines: int = 10
    cpus: int = 32

    def dollars_per_million(self, seconds: float) -> float:
        """Return the price of a million images of which each takes a CPU so many seconds."""
        return seconds * _MILLION / _SECONDS * self.price

    def days(self, seconds: float) -> float:
        """Return the days that the machines take for all images, at so many seconds each."""
        return seconds * self.images / (self.machines * self.cpus) / _SECONDS / _HOURS


@dataclass(frozen=True)
class CostsOptions:
    """What is measured.

    Attributes:
        engine: what executes the graphs.
        crops: numbers of crops; none for each bundle's own.
        megapixels: of the images.
        images: judged in a passage.
        rounds: that count; one more warms up.
        budget: what the costs are multiplied by.
    """

    engine: str = "auto"
    crops: tuple[int, ...] = ()
    megapixels: tuple[float, ...] = (1, 4, 12, 24)
    images: int = 4
    rounds: int = 5
    budget: Budget = field(default_factory=Budget)
