"""Object storage of this machine: moto's S3, in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..measuring.usage import cpu_seconds
from ..serving import client
from ..serving.servers import Server, ServerCommand
from .forms import FOLDER, TAR

BUCKET = "collection"
_KEY, _SECRET, _REGION = "key", "secret", "eu-west-1"  # moto accepts any
_MOTO = ServerCommand("moto's S3", "moto.server", (), ready="/moto-api/", path="/")


class Bucket:
    """A bucket that holds the images as objects and in a tar.

    Attributes:
        environment: the variables by which ``s3://`` leads there.
        sources: what it holds, by the name of its form.
    """

    def __init__(self, server: Server, place: Path) -> None:
        """Make the bucket and copy what it holds from a folder, see :func:`.forms.write_forms`."""
        self._server = server
        endpoint = f"http://{client.HOST}:{server.target.port}"
        self.environment: Mapping[str, str] = {
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",  # which would be asked for credentials
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        self.sources = {
            "folder in a bucket": f"s3://{BUCKET}/{FOLDER}/",
            "tar in a bucket": f"s3://{BUCKET}/{TAR}",
        }
        _upload(endpoint, place)

    def cpu_seconds(self) -> float | None:
        """Return the CPU time that the server has taken so far; Linux only."""
        return cpu_seconds(self._server.pid)


@contextmanager
def bucket_of(place: Path) -> Iterator[Bucket]:
    """Start a server, and fill a bucket from a folder; the server ends with the block.

    Raises:
        EngineError: the server did not start.
    """
    with Server(_MOTO) as server:
        yield Bucket(server, place)


def _upload(endpoint: str, place: Path) -> None:
    import fsspec

    files = fsspec.filesystem(
        "s3",
        endpoint_url=endpoint,
        key=_KEY,
        secret=_SECRET,
        client_kwargs={"region_name": _REGION},
        skip_instance_cache=True,
    )
    files.mkdir(BUCKET)
    paths = [*sorted((place / FOLDER).iterdir()), place / TAR]
    names = [f"{BUCKET}/{path.relative_to(place).as_posix()}" for path in paths]
    files.put([str(path) for path in paths], names)
