"""Object storage, with a real server of S3 and boto3 to check against."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import fsspec
import pytest
from glass_edge.runtime.finding.choosing import Reason
from glass_edge.runtime.finding.files import ImageFile
from glass_edge.runtime.machine.errors import ImageError, OutputError, UnreadableError
from glass_edge.runtime.storage import s3_listing, store, writing
from glass_edge.runtime.storage.objects import (
    ObjectImage,
    Prefix,
    images_under,
    look_at,
    matching,
    objects_in,
    objects_under,
)
from glass_edge.runtime.storage.remote_folder import RemoteFolder
from glass_edge.runtime.storage.store import Object, open_object, store_of
from glass_edge.runtime.storage.urls import as_folder, checked, is_url
from glass_edge.runtime.storage.writing import upload, whole_object
from object_storage import (
    SETTINGS,
    at_first,
    cut,
    honest,
    in_environment,
    in_turn,
    object_storage_fixture,  # noqa: F401
    proxy_fixture,  # noqa: F401
    refusing,
    through,
)

from glass_edge import InputError

JPEG = b"\xff\xd8\xff\xe0" + bytes(300)
MOST = 1 << 20
ONCE = {"AWS_MAX_ATTEMPTS": "1"}
PARTS = 5 << 20  # the least that S3 takes
THREADS = 32


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch) -> None:
    monkeypatch.setattr(store, "_FIRST_PAUSE", 0.01)


@pytest.fixture
def impatient(monkeypatch) -> None:
    """Half a second for a request, of which the pauses alone take any: six attempts."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(store, "RETRY_SECONDS", 0.5)
    monkeypatch.setattr(store, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))


@pytest.fixture(params=["s3", "memory"])
def make_root(request, object_storage):
    """Makes a bucket of either kind that holds these objects; returns its address."""
    files = fsspec.filesystem("memory")

    def make(objects: dict[str, bytes]) -> str:
        if request.param == "s3":
            return f"s3://{object_storage.bucket(objects)}/"
        for key, content in objects.items():
            files.pipe_file(f"/bucket/{key}", content)
        return "memory://bucket/"

    yield make
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def addresses(found) -> list[str]:
    return [each.url for each in found]


def sentence(error: BaseException) -> str:
    text = str(error)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def run(place: Path, code: str, *arguments: str) -> str:
    """Run Python in a process of its own; return what it prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestAddresses:
    @pytest.mark.parametrize(
        "text", ["s3://b/k", "S3://b", "gs://b/", "memory://a", "https://h/p", "git+ssh://h"]
    )
    def test_are_told_from_paths(self, text):
        assert is_url(text)

    @pytest.mark.parametrize(
        "text", ["C:\\a.jpg", "C:/a.jpg", "C://a.jpg", "a/s3:/b", "./s3://b", "s3:b", "://b", ""]
    )
    def test_paths_are_none_also_those_of_windows(self, text):
        assert not is_url(text)

    @pytest.mark.parametrize("url", ["https://host/a.jpg", "file:///a", "s3a://b/k", "az://b"])
    def test_of_other_kinds_are_refused(self, url):
        with pytest.raises(InputError, match=r"is not read: name a path, or .*s3://.*gs://"):
            store_of(url)

    @pytest.mark.parametrize("url", ["s3://", "s3:///key", "gs:///a/b"])
    def test_need_a_bucket(self, url):
        with pytest.raises(InputError, match="names no bucket"):
            look_at(url)

    @pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "s3://bucket/a/"])
    def test_of_folders_are_no_files(self, url):
        for call in (open_object, lambda url: upload(url, io.BytesIO(b"1"))):
            with pytest.raises(InputError, match="names a folder: name an object"):
                call(url)
        with pytest.raises(InputError, match="names a folder"), whole_object(url):
            pytest.fail("the block has begun")

    def test_keep_all_but_the_case_of_their_scheme(self):
        assert checked("S3://Bucket//A b%20?#") == "s3://Bucket//A b%20?#"
        assert [as_folder("s3://b"), as_folder("s3://b/a/")] == ["s3://b/", "s3://b/a/"]


class TestListing:
    def test_is_paged_and_equals_boto3s(self, object_storage, proxy):
        keys = [f"{number % 7}/{number:05}.jpg" for number in range(2500)]
        bucket = object_storage.bucket({key: key[:5].encode() for key in keys})
        pages = object_storage.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        theirs = [found for page in pages for found in page["Contents"]]
        with through(proxy):
            ours = list(objects_under(f"s3://{bucket}"))
            assert proxy.methods == ["GET"] * 3
        assert addresses(ours) == [f"s3://{bucket}/{found['Key']}" for found in theirs]
        assert addresses(ours) == [f"s3://{bucket}/{key}" for key in sorted(keys)]
        assert [each.file.bytes for each in ours] == [found["Size"] for found in theirs]
        assert [each.file.modified for each in ours] == [
            f"{found['LastModified']:%Y-%m-%dT%H:%M:%S.%f}+00:00" for found in theirs
        ]

    def test_asks_for_a_page_only_when_it_is_needed(self, object_storage, proxy, monkeypatch):
        monkeypatch.setattr(s3_listing, "KEYS_PER_PAGE", 10)
        bucket = object_storage.bucket({f"{number:02}": b"" for number in range(30)})
        with through(proxy):
            found = objects_under(f"s3://{bucket}")
            for _ in range(10):
                next(found)
            assert proxy.methods == ["GET"]
            next(found)
            assert proxy.methods == ["GET"] * 2

    def test_sees_what_has_changed(self, make_root):
        root = make_root({"a": b"1"})
        assert [each.file.bytes for each in objects_under(root)] == [1]
        with whole_object(f"{root}a") as file:
            file.write(b"22")
        assert [each.file.bytes for each in objects_under(root)] == [2]
        assert look_at(f"{root}a").file.bytes == 2

    def test_sees_what_others_have_changed(self, object_storage):
        root = f"s3://{object_storage.bucket({'a': b'1'})}/"
        assert matching(f"{root}*") == [f"{root}a"]
        for key, content in (("a", b"333"), ("b", b"22")):
            object_storage.client.put_object(Bucket=root.split("/")[2], Key=key, Body=content)
        assert matching(f"{root}*") == [f"{root}a", f"{root}b"]
        with open_object(f"{root}a") as file:
            assert file.read() == b"333"

    def test_is_in_the_order_of_keys(self, make_root):
        keys = ["a-b/x", "a.jpg", "a/b.jpg", "a/b/c", "a0", "b/é", "b/z", "b/日本"]
        root = make_root(dict.fromkeys(reversed(keys), b"1"))
        assert addresses(objects_under(root)) == [root + key for key in sorted(keys)]

    def test_a_prefix_is_a_folder(self, make_root):
        root = make_root(dict.fromkeys(["a/1", "a/b/2", "ab/3", "a-/4"], b"1"))
        for url in (f"{root}a", f"{root}a/"):
            assert addresses(objects_under(url)) == [f"{root}a/1", f"{root}a/b/2"]
            assert addresses(objects_in(url)) == [f"{root}a/1"]
        assert addresses(objects_under(f"{root}none")) == []

    def test_markers_of_folders_are_nothing(self, object_storage):
        bucket = object_storage.bucket({"a/": b"", "a/b/": b"", "a/1.jpg": b"1", "odd/": b"1"})
        root = f"s3://{bucket}/"
        assert addresses(objects_under(root)) == [f"{root}a/1.jpg", f"{root}odd/"]
        assert addresses(objects_in(f"{root}a")) == [f"{root}a/1.jpg"]

    def test_any_key_is_listed_and_read(self, object_storage):
        keys = [
            "a b.jpg", "a+b.jpg", "a%20b.jpg", "a?b#c.jpg", "ü/日本.jpg", "a//b.jpg",
            "&<>\"'.jpg", "a\tb.jpg", "*[1].jpg", "🙂.jpg", " .jpg", "a\\b.jpg", "s3://x.jpg",
        ]  # fmt: skip
        bucket = object_storage.bucket()
        for key in keys:
            object_storage.client.put_object(Bucket=bucket, Key=key, Body=key.encode())
        images = list(images_under(f"s3://{bucket}"))
        assert {image.path for image in images} == {f"s3://{bucket}/{key}" for key in keys}
        for image in images:
            assert image.read(MOST) == image.path.removeprefix(f"s3://{bucket}/").encode()
            assert look_at(image.path).file == image.file


class TestLookingAtAnAddress:
    def test_tells_objects_and_folders(self, make_root):
        root = make_root({"a.jpg": b"123", "b/c.jpg": b"1"})
        found = look_at(f"{root}a.jpg")
        assert (found.url, found.file.bytes) == (f"{root}a.jpg", 3)
        assert list(objects_in(root)) == [found]
        for url in (f"{root}b", f"{root}b/"):
            assert look_at(url) == Prefix(f"{root}b/")
        assert look_at(root) == look_at(root.rstrip("/")) == Prefix(root)
        for url in ("a.jpg/", "a", "b/c", "none", "none/"):
            assert look_at(root + url) is None

    def test_costs_a_request_or_two(self, object_storage, proxy):
        root = f"s3://{object_storage.bucket({'a': b'', 'b/c': b''})}"
        requests = {"a": "HEAD", "b": "HEAD GET", "b/": "GET", "": "GET", "none": "HEAD GET"}
        for name, methods in requests.items():
            with through(proxy):
                look_at(f"{root}/{name}")
                assert proxy.methods == methods.split()

    def test_an_object_comes_before_a_folder_of_its_name(self, object_storage):
        root = f"s3://{object_storage.bucket({'a': b'1', 'a/b': b'22'})}"
        assert isinstance(look_at(f"{root}/a"), Object)
        assert isinstance(look_at(f"{root}/a/"), Prefix)

    def test_an_empty_bucket_is_a_folder(self, object_storage):
        assert isinstance(look_at(f"s3://{object_storage.bucket()}"), Prefix)


class TestPatterns:
    def test_match_objects_and_folders(self, make_root):
        root = make_root(dict.fromkeys(["1.tar", "2.tar", "a/3.tar", "10.tar", "1.txt"], b"1"))
        assert matching(f"{root}*.tar") == [f"{root}{name}.tar" for name in ("1", "10", "2")]
        assert matching(f"{root}?.tar") == [f"{root}1.tar", f"{root}2.tar"]
        assert matching(f"{root}*/*.tar") == [f"{root}a/3.tar"]
        assert matching(f"{root}a*") == [f"{root}a/"]
        assert matching(f"{root}*.zip") == []

    def test_name_a_bucket_that_is_there(self, object_storage):
        with pytest.raises(InputError, match="a pattern may begin after the bucket"):
            matching("s3://buck*/a")
        with pytest.raises(InputError, match="no such bucket"):
            matching("s3://no-such-bucket/*.tar")


class TestImages:
    OBJECTS: ClassVar = {
        "in/.hidden/a.jpg": b"1",
        "in/.hidden/b/c.jpg": b"1",
        "in/.b.jpg": b"1",
        "in/a.JPG": b"1",
        "in/empty": b"",
        "in/jpeg-without-suffix": JPEG,
        "in/notes.txt": b"1",
        "in/photos.tar": b"1",
        "in/raw.cr2": b"1",
        "in/sub/b.png": b"1",
        "in/sub/text-without-suffix": b"hello",
        "inner/c.jpg": b"1",
    }
    SKIPPED: ClassVar = {
        ".hidden": Reason.HIDDEN_FOLDER,
        ".b.jpg": Reason.HIDDEN,
        "empty": Reason.OTHER,
        "notes.txt": Reason.OTHER,
        "photos.tar": Reason.ARCHIVE,
        "raw.cr2": Reason.RAW,
        "sub/text-without-suffix": Reason.OTHER,
    }

    def test_are_chosen_as_in_folders(self, make_root):
        root, told = make_root(self.OBJECTS), []
        images = list(images_under(f"{root}in", lambda path, reason: told.append((path, reason))))
        assert [image.path.removeprefix(f"{root}in/") for image in images] == [
            "a.JPG", "jpeg-without-suffix", "sub/b.png",
        ]  # fmt: skip
        assert sorted(told) == sorted(
            (f"{root}in/{path}", reason) for path, reason in self.SKIPPED.items()
        )
        assert images[1].read(MOST) == JPEG
        assert images[1].file == look_at(images[1].path).file

    def test_the_folder_that_is_named_may_be_hidden(self, make_root):
        root = make_root(self.OBJECTS)
        assert [image.path for image in images_under(f"{root}in/.hidden/")] == [
            f"{root}in/.hidden/{name}" for name in ("a.jpg", "b/c.jpg")
        ]

    def test_first_bytes_are_read_only_where_the_suffix_says_nothing(self, object_storage, proxy):
        bucket = object_storage.bucket(self.OBJECTS)
        with through(proxy):
            list(images_under(f"s3://{bucket}/in"))
            listing, *rest = proxy.requests
        assert "list-type=2" in listing.path
        assert [(each.path.rpartition("/")[2], each.headers["Range"]) for each in rest] == [
            ("jpeg-without-suffix", "bytes=0-127"), ("text-without-suffix", "bytes=0-127"),
        ]  # fmt: skip

    def test_what_cannot_be_looked_into_is_an_image(self, object_storage, proxy):
        bucket = object_storage.bucket({"locked": b"1"})
        denied = refusing(403, "AccessDenied")
        with through(proxy, lambda r, f: (denied if "locked" in r.path else honest)(r, f)):
            (image,) = images_under(f"s3://{bucket}")
            with pytest.raises(UnreadableError, match="access is denied"):
                image.read(MOST)

    def test_reading_one_is_one_request(self, object_storage, proxy):
        bucket = object_storage.bucket({"a.jpg": JPEG, "empty.jpg": b""})
        with through(proxy):
            image, empty = images_under(f"s3://{bucket}")
            assert proxy.methods == ["GET"]
            assert image.read(MOST) == object_storage.content(bucket, "a.jpg") == JPEG
            assert proxy.methods == ["GET"] * 2
            assert empty.read(MOST) == b""
            assert proxy.methods == ["GET"] * 2

    def test_one_that_is_too_large_is_not_fetched(self, object_storage, proxy):
        bucket = object_storage.bucket({"a.jpg": bytes(1000)})
        with through(proxy):
            (image,) = images_under(f"s3://{bucket}")
            assert len(image.read(1000)) == 1000
            proxy.requests.clear()
            with pytest.raises(ImageError, match="1000 bytes, more than the limit of 999"):
                image.read(999)
            assert proxy.requests == []

    def test_one_that_has_grown_is_not_fetched_whole(self, object_storage, proxy):
        bucket = object_storage.bucket({"a.jpg": bytes(10)})
        with through(proxy):
            (image,) = images_under(f"s3://{bucket}")
            object_storage.client.put_object(Bucket=bucket, Key="a.jpg", Body=bytes(1000))
            with pytest.raises(ImageError, match="more than the limit of 99"):
                image.read(99)
            assert proxy.requests[-1].headers["Range"] == "bytes=0-99"
            assert len(image.read(1000)) == 1000

    def test_one_that_is_gone_is_unreadable(self, make_root):
        image = ObjectImage(f"{make_root({'a': b''})}gone.jpg", ImageFile(1, ""))
        with pytest.raises(UnreadableError, match=r"^it cannot be read: it is not there\."):
            image.read(MOST)

    def test_many_threads_read_at_once(self, object_storage, proxy):
        """None of these requests is answered before all of them have come."""
        bucket = object_storage.bucket({f"{number}.jpg": JPEG for number in range(THREADS)})
        images, together = list(images_under(f"s3://{bucket}")), threading.Barrier(THREADS)

        def answer(request, forward):
            together.wait(timeout=20)
            return forward()

        with through(proxy, answer, **ONCE), ThreadPoolExecutor(THREADS) as threads:
            assert set(threads.map(lambda image: image.read(MOST), images)) == {JPEG}

    def test_go_to_other_processes(self, object_storage):
        bucket = object_storage.bucket({"a.jpg": JPEG})
        (image,) = images_under(f"s3://{bucket}")
        assert pickle.loads(pickle.dumps(image)).read(MOST) == JPEG


class TestOpenObjects:
    CONTENT = b"".join(b"line %d\n" % number for number in range(20_000))

    def test_are_files(self, make_root):
        with open_object(f"{make_root({'a': self.CONTENT})}a") as file:
            like = io.BytesIO(self.CONTENT)
            assert file.readline() == like.readline()
            for offset, whence in ((-10, 2), (5, 0), (100_000, 1), (0, 0)):
                assert file.seek(offset, whence) == like.seek(offset, whence)
                assert file.read(70_000) == like.read(70_000)
            assert file.read() == like.read()
            assert file.seekable()
            assert file.readable()

    def test_each_has_a_position_of_its_own(self, make_root):
        url = f"{make_root({'a': b'0123456789'})}a"
        with open_object(url) as one, open_object(url) as other:
            assert one.read(3) == other.read(3) == b"012"

    def test_reading_in_order_takes_few_requests(self, object_storage, proxy):
        bucket = object_storage.bucket({"a": self.CONTENT})
        with through(proxy), open_object(f"s3://{bucket}/a") as file:
            assert list(file) == self.CONTENT.splitlines(keepends=True)
            assert proxy.methods == ["HEAD", "GET"]

    def test_a_body_that_breaks_off_is_read_again(self, object_storage, proxy):
        bucket = object_storage.bucket({"a": self.CONTENT})
        with through(proxy), open_object(f"s3://{bucket}/a") as file:
            with proxy.behaving(at_first(2, cut)):
                assert file.read() == self.CONTENT
            assert proxy.methods == ["HEAD", "GET", "GET", "GET"]

    def test_one_that_is_replaced_meanwhile_is_not_mixed(self, object_storage, proxy):
        bucket = object_storage.bucket({"a": self.CONTENT})
        with through(proxy), open_object(f"s3://{bucket}/a") as file:
            changed = refusing(412, "PreconditionFailed")
            with proxy.behaving(changed), pytest.raises(UnreadableError, match="was changed"):
                file.read()
            assert "If-Match" in proxy.requests[-1].headers

    def test_the_error_is_of_the_kind_that_is_asked_for(self, object_storage):
        url = f"s3://{object_storage.bucket()}/a"
        with pytest.raises(UnreadableError, match="it is not there"):
            open_object(url)
        with pytest.raises(InputError, match="it is not there"):
            open_object(url, InputError)


class TestTroubles:
    """What may pass is tried again; what does not pass becomes a sentence in bounded time."""

    @pytest.mark.parametrize(
        "trouble",
        [refusing(503, "SlowDown"), refusing(500, "InternalError"), cut, lambda *_: None],
        ids=["throttled", "failing", "cut", "closed"],
    )
    def test_reading_outlives_them(self, trouble, object_storage, proxy):
        bucket = object_storage.bucket({"a.jpg": JPEG})
        (image,) = images_under(f"s3://{bucket}")
        with through(proxy, at_first(3, trouble), **ONCE):
            assert image.read(MOST) == JPEG
            assert len(proxy.requests) == 4

    def test_listing_outlives_them(self, object_storage, proxy, monkeypatch):
        monkeypatch.setattr(s3_listing, "KEYS_PER_PAGE", 2)
        root = f"s3://{object_storage.bucket(dict.fromkeys('abcde', b'1'))}/"
        troubles = [refusing(503, "SlowDown"), honest, cut, honest, lambda *_: None, honest]
        with through(proxy, in_turn(troubles), **ONCE):
            assert addresses(objects_under(root)) == [root + key for key in "abcde"]

    @pytest.mark.parametrize(
        ("trouble", "reason", "requests"),
        [
            (refusing(503, "SlowDown"), "still throttles after many attempts", 6),
            (refusing(500, "InternalError"), "the store failed in every attempt", 6),
            (cut, "the connection broke off", 6),
            (lambda *_: None, "the connection broke off", 12),  # the client itself asks once more
        ],
        ids=["throttled", "failing", "cut", "closed"],
    )
    def test_that_last_make_an_object_unreadable(
        self, trouble, reason, requests, object_storage, proxy, impatient
    ):
        bucket = object_storage.bucket({"a.jpg": JPEG})
        (image,) = images_under(f"s3://{bucket}")
        with through(proxy, trouble, **ONCE):
            with pytest.raises(UnreadableError, match=reason) as caught:
                image.read(MOST)
            assert len(proxy.requests) == requests
        assert sentence(caught.value).startswith("it cannot be read: ")  # its record has the path
        assert caught.value.__cause__ is not None

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("trouble", "seconds"),
        [(refusing(503, "SlowDown"), 60), (cut, 40), ("silent", 110)],
        ids=["throttled", "cut", "silent"],
    )
    def test_last_as_long_as_promised(self, trouble, seconds, object_storage, proxy):
        """With the settings that users have. See RETRY_SECONDS."""
        bucket = object_storage.bucket({"a.jpg": JPEG})
        (image,) = images_under(f"s3://{bucket}")
        ended = threading.Event()

        def silent(*_):
            ended.wait(200)

        with through(proxy, silent if trouble == "silent" else trouble):
            begun = time.monotonic()
            with pytest.raises(UnreadableError):
                image.read(MOST)
            ended.set()
        assert time.monotonic() - begun < seconds

    @pytest.mark.parametrize(
        ("status", "code", "reason"),
        [
            (403, "AccessDenied", "access is denied"),
            (403, "SignatureDoesNotMatch", "the credentials are not accepted"),
            (403, "InvalidAccessKeyId", "the credentials are not accepted"),
            (400, "ExpiredToken", "the credentials are not accepted"),
            (403, "InvalidObjectState", "archive tier"),
            (400, "AuthorizationHeaderMalformed", "another region: set AWS_DEFAULT_REGION"),
            (418, "Teapot", "Teapot"),
        ],
    )
    def test_refusals_are_sentences_at_once(self, status, code, reason, proxy):
        with through(proxy, refusing(status, code)):
            for ask in (look_at, lambda url: list(objects_under(url))):
                with pytest.raises(InputError, match=reason) as caught:
                    ask("s3://bucket/a")
                sentence(caught.value)
                assert caught.value.__cause__ is not None
            with pytest.raises(UnreadableError, match=reason):
                ObjectImage("s3://bucket/a", None).read(MOST)
            with pytest.raises(OutputError, match=f"s3://bucket/a cannot be written: .*{reason}"):
                upload("s3://bucket/a", io.BytesIO(b"1"))
            assert len(proxy.requests) <= 8

    @pytest.mark.parametrize(
        ("settings", "reason"),
        [
            ({"AWS_ACCESS_KEY_ID": None}, "no credentials were found: set AWS_PROFILE, or"),
            ({"AWS_SECRET_ACCESS_KEY": None}, "no credentials were found"),
            ({"AWS_PROFILE": "nobody"}, "the profile that AWS_PROFILE names"),
            (
                {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"} | ONCE,
                "its endpoint cannot be reached: check the network, and AWS_ENDPOINT_URL",
            ),
            ({"AWS_ENDPOINT_URL": "localhost:9"}, "AWS_ENDPOINT_URL is no address"),
        ],
        ids=["no-key", "no-secret", "profile", "unreachable", "no-address"],
    )
    def test_wrong_settings_are_sentences(self, settings, reason, object_storage):
        with in_environment(**(object_storage.environment | settings)):
            for ask in (look_at, lambda url: list(objects_under(url))):
                with pytest.raises(InputError, match=reason) as caught:
                    ask("s3://bucket/a")
                sentence(caught.value)

    @pytest.mark.parametrize("bucket", ["no-such-bucket", "Not@a@bucket"])
    def test_an_unknown_bucket_is_a_sentence(self, bucket, object_storage):
        for ask in (look_at, lambda url: list(objects_under(url))):
            for url in (f"s3://{bucket}/a", f"s3://{bucket}/", f"s3://{bucket}"):
                with pytest.raises(InputError, match="there is no such bucket"):
                    ask(url)
        with pytest.raises(UnreadableError, match="there is no such bucket"):
            open_object(f"s3://{bucket}/a")

    def test_a_fault_of_ours_is_not_hidden(self):
        with pytest.raises(ZeroDivisionError):
            store.asking("s3://bucket/a", lambda: 1 // 0)


class TestLibraries:
    ASK = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[2:]))
from glass_edge.runtime.machine.errors import InputError
from glass_edge.runtime.storage.store import store_of
try:
    store_of(sys.argv[1])
except InputError as error:
    print(error, end="")
"""

    @pytest.mark.parametrize(
        ("url", "missing", "said"),
        [
            (
                "s3://b",
                "fsspec",
                "s3:// needs the library fsspec: pip install 'glass-edge[cloud]'.",
            ),
            ("s3://b", "s3fs", "s3:// needs the library s3fs: pip install s3fs."),
            ("gs://b", "gcsfs", "gs:// needs the library gcsfs: pip install gcsfs."),
            ("memory://a", "s3fs", ""),
        ],
        ids=["fsspec", "s3fs", "gcsfs", "none"],
    )
    def test_that_are_missing_are_named(self, url, missing, said, tmp_path):
        assert run(tmp_path, self.ASK, url, missing) == said

    def test_are_loaded_only_when_an_address_is_opened(self, tmp_path):
        code = "import sys, glass_edge.runtime.storage.remote_folder; print(*sys.modules)"
        loaded = run(tmp_path, code).split()
        assert "glass_edge.runtime.storage.writing" in loaded
        assert not {"fsspec", "s3fs", "botocore", "aiohttp"} & set(loaded)

    def test_an_endpoint_may_be_given_in_fsspecs_way(self, object_storage, tmp_path):
        bucket = object_storage.bucket({"a": b""})
        code = (
            "import sys; from glass_edge.runtime.storage.objects import *; "
            "print(*[found.url for found in objects_under(sys.argv[1])])"
        )
        settings = SETTINGS | {"FSSPEC_S3_ENDPOINT_URL": object_storage.endpoint}
        with in_environment(**settings):
            assert run(tmp_path, code, f"s3://{bucket}") == f"s3://{bucket}/a\n"


class TestWholeObjects:
    def test_appear_at_the_end_of_the_block(self, make_root):
        url = f"{make_root({})}out/a.txt"
        with whole_object(url) as file:
            file.write(b"one, ")
            file.write(b"two")
            assert look_at(url) is None
        with open_object(url) as written:
            assert written.read() == b"one, two"

    def test_replace_what_was_there_only_at_the_end(self, make_root):
        root = make_root({"a": b"before"})
        with whole_object(f"{root}a") as file:
            file.write(b"after")
            assert ObjectImage(f"{root}a", None).read(MOST) == b"before"
        assert ObjectImage(f"{root}a", None).read(MOST) == b"after"

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError])
    def test_do_not_appear_if_the_block_raises(self, error, make_root):
        root = make_root({"a": b"before"})
        for name in ("a", "b"):
            with pytest.raises(error), whole_object(root + name) as file:  # noqa: PT012
                file.write(b"after")
                raise error
        assert [(each.url, each.file.bytes) for each in objects_under(root)] == [(f"{root}a", 6)]

    def test_a_small_one_is_one_request(self, object_storage, proxy):
        bucket = object_storage.bucket()
        with through(proxy):
            for content in (b"small", b""):
                with whole_object(f"s3://{bucket}/a") as file:
                    file.write(content)
                assert object_storage.content(bucket, "a") == content
            assert proxy.methods == ["PUT"] * 2

    def test_a_full_disk_is_a_sentence(self, object_storage):
        with pytest.raises(OutputError, match="set TMPDIR"), whole_object("s3://b/a"):
            raise OSError(28, "No space left on device")

    def test_an_address_that_is_none_is_told_before_the_work(self):
        with pytest.raises(InputError, match="is not read"), whole_object("ftp://host/a"):
            pytest.fail("the block has begun")

    def test_throttling_is_outlived(self, object_storage, proxy):
        bucket = object_storage.bucket()
        with through(proxy, at_first(2, refusing(503, "SlowDown")), **ONCE):
            upload(f"s3://{bucket}/a", io.BytesIO(b"content"))
        assert object_storage.content(bucket, "a") == b"content"


# What is written only in part may not complete itself when it is thrown away.
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
class TestObjectsInParts:
    CONTENT = b"".join(bytes([number]) * (1 << 20) for number in range(13))

    @pytest.fixture(autouse=True)
    def small_parts(self, monkeypatch):
        monkeypatch.setattr(writing, "_PART_BYTES", PARTS)

    def test_are_whole(self, object_storage, proxy):
        bucket = object_storage.bucket()
        with through(proxy):
            with whole_object(f"s3://{bucket}/a") as file:
                file.write(self.CONTENT)
            assert proxy.methods == ["POST", "PUT", "PUT", "PUT", "POST"]
        assert object_storage.content(bucket, "a") == self.CONTENT
        assert object_storage.client.head_object(Bucket=bucket, Key="a")["ETag"].endswith('-3"')
        assert object_storage.unfinished(bucket) == []

    @pytest.mark.parametrize("broken", ["partNumber=2", "uploadId="], ids=["part", "all"])
    def test_that_fail_leave_nothing(self, broken, object_storage, proxy):
        bucket, denied = object_storage.bucket(), refusing(403, "AccessDenied")

        def answer(request, forward):
            wanted = broken in request.path and request.method != "DELETE"
            return (denied if wanted else honest)(request, forward)

        with (
            through(proxy, answer),
            pytest.raises(OutputError, match="cannot be written: access is denied"),
            whole_object(f"s3://{bucket}/a") as file,
        ):
            file.write(self.CONTENT)
        assert "DELETE" in proxy.methods
        assert object_storage.unfinished(bucket) == []
        assert object_storage.keys(bucket) == []

    def test_that_are_interrupted_leave_nothing(self, object_storage):
        class Interrupting(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if self.tell() > 2 * PARTS:
                    assert object_storage.unfinished(bucket)
                    raise KeyboardInterrupt
                return super().read(size)

        bucket = object_storage.bucket()
        with pytest.raises(KeyboardInterrupt):
            upload(f"s3://{bucket}/a", Interrupting(self.CONTENT))
        assert object_storage.unfinished(bucket) == []
        assert object_storage.keys(bucket) == []

    def test_that_are_cut_off_are_sent_again(self, object_storage, proxy):
        bucket = object_storage.bucket()
        with through(proxy, in_turn([honest, honest, lambda *_: None]), **ONCE):
            upload(f"s3://{bucket}/a", io.BytesIO(self.CONTENT))
        assert object_storage.content(bucket, "a") == self.CONTENT
        assert object_storage.unfinished(bucket) == []


class TestRemoteFolders:
    def test_hold_what_is_put_there(self, make_root, tmp_path):
        root = make_root({"out/sub/c": b"", "outer": b""})
        for address in (f"{root}out", f"{root}out/"):
            folder = RemoteFolder(address)
            assert folder.address == address
        assert list(folder.names()) == []
        for content in (b"first", b"second"):
            Path(tmp_path / "file").write_bytes(content)
            folder.put("b", tmp_path / "file")
            with folder.open("b") as file:
                assert file.read() == content
        folder.put("a", tmp_path / "file")
        assert list(folder.names()) == ["a", "b"]
        assert addresses(objects_in(f"{root}out")) == [f"{root}out/a", f"{root}out/b"]

    def test_are_empty_where_nothing_is(self, make_root):
        assert list(RemoteFolder(f"{make_root({'a': b''})}nowhere").names()) == []

    def test_nothing_is_put_in_the_place_of_another(self, make_root):
        folder = RemoteFolder(make_root({"x": b""}))
        assert folder.put_new("a", b"first")
        assert not folder.put_new("a", b"second")
        with folder.open("a") as file:
            assert file.read() == b"first"

    def test_one_of_many_at_once_succeeds(self, object_storage):
        folder = RemoteFolder(f"s3://{object_storage.bucket()}/out")
        contents = [b"%d" % number for number in range(8)]
        with ThreadPoolExecutor(len(contents)) as threads:
            put = list(threads.map(lambda content: folder.put_new("a", content), contents))
        assert sum(put) == 1
        with folder.open("a") as file:
            assert file.read() == contents[put.index(True)]

    def test_the_store_decides_who_is_first(self, object_storage, proxy):
        """Nothing is there when it is looked for, but it is when it is written."""
        bucket = object_storage.bucket()

        def overtaken(request, forward):
            if request.method == "PUT":
                object_storage.client.put_object(Bucket=bucket, Key="a", Body=b"theirs")
            return forward()

        with through(proxy, overtaken):
            assert not RemoteFolder(f"s3://{bucket}").put_new("a", b"ours")
        assert object_storage.content(bucket, "a") == b"theirs"

    def test_nothing_is_replaced_where_the_store_ignores_the_condition(self, object_storage, proxy):
        bucket = object_storage.bucket({"a": b"first"})

        def ignorant(request, forward):
            del request.headers["If-None-Match"]
            return forward()

        with through(proxy, ignorant):
            assert not RemoteFolder(f"s3://{bucket}").put_new("a", b"second")
        assert object_storage.content(bucket, "a") == b"first"

    def test_errors_are_sentences(self, object_storage, tmp_path):
        folder = RemoteFolder("s3://no-such-bucket/out")
        Path(tmp_path / "file").touch()
        for error, call in (
            (InputError, lambda: list(folder.names())),
            (InputError, lambda: folder.open("a")),
            (OutputError, lambda: folder.put("a", tmp_path / "file")),
            (OutputError, lambda: folder.put_new("a", b"")),
        ):
            with pytest.raises(error, match="there is no such bucket"):
                call()
        with pytest.raises(InputError, match="it is not there"):
            RemoteFolder(f"s3://{object_storage.bucket()}").open("a")
