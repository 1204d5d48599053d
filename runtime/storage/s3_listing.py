"""What lies in buckets of S3, a page of keys at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from typing import Any

from ..finding.files import ImageFile
from .store import Object, Store, asking

KEYS_PER_PAGE = 1000
"""S3's own limit."""


class S3Listing:
    """Looks into buckets without holding more than one page of keys."""

    def __init__(self, store: Store) -> None:
        self._files = store.files

    def object_at(self, url: str) -> Object | None:
        """Return what lies at an address; one request. See :class:`.objects.Listing`."""
        bucket, key = self._split(url)
        if not key:
            return None
        return asking(url, partial(self._head, url, bucket, key))

    def is_folder(self, url: str) -> bool:
        """Whether anything lies in a folder, or it is a bucket; one request."""
        bucket, prefix = self._split(url)
        page = asking(url, partial(self._page, bucket, prefix, MaxKeys=1))
        return not prefix or page["KeyCount"] > 0

    def below(self, url: str) -> Iterator[Object]:
        """Yield all objects in a folder and its folders, in the order of their keys."""
        return self._listed(url)

    def directly_in(self, url: str) -> Iterator[Object]:
        """Yield the objects in a folder, in the order of their keys."""
        return self._listed(url, Delimiter="/")

    def _listed(self, url: str, **options: str) -> Iterator[Object]:
        bucket, prefix = self._split(url)
        while True:
            page = asking(url, partial(self._page, bucket, prefix, **options))
            for found in page.get("Contents", ()):
                file = _file(found["Size"], found["LastModified"])
                yield Object(f"s3://{bucket}/{found['Key']}", file)
            if not page.get("IsTruncated"):
                return
            options["ContinuationToken"] = page["NextContinuationToken"]

    def _head(self, url: str, bucket: str, key: str) -> Object | None:
        try:
            found = self._call("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return None
        except OSError:
            # Nothing but a number comes with this one, and a sentence with a listing's error.
            self._page(bucket, f"{key}/", MaxKeys=1)
            raise
        return Object(url, _file(found["ContentLength"], found["LastModified"]))

    def _page(self, bucket: str, prefix: str, **options: Any) -> dict[str, Any]:
        wanted = {"MaxKeys": KEYS_PER_PAGE} | options
        return self._call("list_objects_v2", Bucket=bucket, Prefix=prefix, **wanted)

    def _call(self, method: str, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._files.call_s3(method, self._files.req_kw, **options)
        return answer

    def _split(self, url: str) -> tuple[str, str]:
        bucket, key, *_ = self._files.split_path(url)
        return bucket, key


def _file(size: int, modified: datetime) -> ImageFile:
    return ImageFile(size, modified.astimezone(timezone.utc).isoformat(timespec="microseconds"))
