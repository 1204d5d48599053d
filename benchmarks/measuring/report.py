"""What the reports of all benchmarks share."""

from __future__ import annotations

import msgspec

from ...runtime.machine.environment import Environment

SCHEMA_VERSION = 1


class BenchReport(msgspec.Struct, frozen=True):
    """A report: every sample, the command that made it, and the machine that it ran on."""

    schema: int
    command: str
    environment: Environment

    def to_json(self) -> bytes:
        """Return the report with all samples."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    def page(self, title: str, *parts: str) -> str:
        """Return a Markdown page that begins with the title, the command and the machine."""
        head = (f"# {title}", f"`{self.command}`", self.environment.to_markdown())
        return "\n\n".join([*head, *(part for part in parts if part)]) + "\n"
