"""Content credentials: what a signature is worth, and that reading them asks nobody."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import c2pa
import msgspec
import pytest
from conftest import encoded
from glass_edge.runtime.claims.claims import LONGEST_VALUE, ClaimOptions
from glass_edge.runtime.claims.credentials import MOST_ACTIONS, read_credentials
from glass_edge.runtime.claims.marks import may_hold_credentials
from glass_edge.runtime.claims.reading import MOST_TRUST_BYTES, read_claims, read_trust_list
from offline import ASKED, SUPPORTED, run_offline
from PIL import Image
from pillow_heif import register_heif_opener
from signed import MEDIA_TYPES, SOURCE_TYPES, Signer, created, new_signer, signed

from glass_edge import InputError

register_heif_opener()


@pytest.fixture(scope="module")
def signer() -> Signer:
    return new_signer()


@pytest.fixture(scope="module")
def picture(photograph: Image.Image) -> Image.Image:
    return photograph.resize((64, 48))


@pytest.fixture(scope="module")
def jpeg(picture: Image.Image) -> bytes:
    return encoded(picture, "JPEG")


@pytest.fixture(scope="module")
def genuine(jpeg: bytes, signer: Signer) -> bytes:
    return signed(jpeg, "JPEG", signer)


def tampered(content: bytes) -> bytes:
    """The same file with another value in its picture's data."""
    place = len(content) - 40
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


class TestStates:
    def test_a_signer_on_the_list_is_trusted(self, genuine, signer):
        found = read_credentials(genuine, signer.root)
        assert (found.state, found.codes[-1]) == ("trusted", "assertion.dataHash.match")
        assert "signingCredential.trusted" in found.codes

    def test_without_a_list_nobody_is(self, genuine):
        found = read_credentials(genuine)
        assert (found.state, found.codes[0]) == ("valid", "signingCredential.untrusted")

    def test_nor_on_a_list_of_others(self, genuine):
        found = read_credentials(genuine, new_signer().root)
        assert (found.state, found.codes[0]) == ("valid", "signingCredential.untrusted")

    def test_a_list_may_hold_others_too_and_remarks(self, genuine, signer):
        trusted = f"# ours, größer als nötig\n{new_signer().root}\nours:\n{signer.root}"
        assert read_credentials(genuine, trusted).state == "trusted"

    @pytest.mark.parametrize("trusting", [True, False])
    def test_a_picture_that_was_changed_is_invalid(self, trusting, genuine, signer):
        found = read_credentials(tampered(genuine), signer.root if trusting else "")
        assert (found.state, found.codes[0]) == ("invalid", "assertion.dataHash.mismatch")

    def test_so_is_a_manifest_that_was(self, genuine):
        forged = genuine.replace(b"Example Painter", b"Exemple Painter")
        assert forged != genuine
        assert read_credentials(forged).state == "invalid"

    def test_so_are_credentials_of_another_picture(self, picture, genuine):
        other = encoded(picture.rotate(180), "JPEG")
        end = other.index(b"\xff\xdb")
        store = genuine[genuine.index(b"\xff\xeb") : genuine.index(b"\xff\xdb")]
        assert read_credentials(other[:end] + store + other[end:]).state == "invalid"

    @pytest.mark.slow
    def test_a_certificate_that_has_expired_is_invalid_and_the_code_says_so(self, jpeg):
        """If no timestamp proves that the file was signed before."""
        for seconds in (3, 20):  # the more on a machine that is busy
            soon = new_signer(seconds=seconds)
            content = signed(jpeg, "JPEG", soon)
            if read_credentials(content, soon.root).state == "trusted":
                break
        else:
            pytest.fail("it was never trusted")
        time.sleep(seconds + 1)
        found = read_credentials(content, soon.root)
        assert (found.state, found.codes[0]) == ("invalid", "signingCredential.expired")

    @pytest.mark.parametrize("kind", [*MEDIA_TYPES, "BMP", "PPM", "JPEG2000"])
    def test_a_file_without_any_has_none(self, kind, picture, monkeypatch):
        """And the library is not asked."""
        monkeypatch.setitem(sys.modules, "c2pa", None)
        assert read_credentials(encoded(picture, kind)).state == "none"

    def test_the_librarys_silence_means_none(self, jpeg):
        """It has the last word on a file that only looks as if."""
        comment = b"\xff\xeb\0\x0ajumdc2pa"
        assert read_credentials(jpeg[:2] + comment + jpeg[2:]).state == "none"

    def test_a_store_that_is_damaged_is_unread(self, genuine):
        place = genuine.index(b"jumdc2pa") - 4
        found = read_credentials(genuine[:place] + b"\xff" * 4 + genuine[place + 4 :])
        assert found.state == "unread"
        assert found.codes[0]

    def test_a_format_that_the_library_does_not_read_is_unread(self, picture):
        found = read_credentials(encoded(picture, "JPEG2000") + b"jumdc2pa")
        assert found.state == "unread"
        assert found.codes == ("c2pa-python does not read JPEG 2000",)


@pytest.mark.parametrize("kind", MEDIA_TYPES)
@pytest.mark.parametrize("how", ["embedded", "remote", "both"])
def test_every_format_has_its_place_for_them(kind, how, picture, signer):
    """The place is seen before the library is asked, wherever the library puts it."""
    content = signed(
        encoded(picture, kind),
        kind,
        signer,
        remote=None if how == "embedded" else "http://192.0.2.1/manifest",
        embedded=how != "remote",
    )
    found = read_credentials(content, signer.root)
    assert found.state == ("remote" if how == "remote" else "trusted")
    assert read_credentials(encoded(picture, kind)).state == "none"


def test_a_png_may_have_them_at_its_end(picture, signer):
    content = signed(encoded(picture, "PNG"), "PNG", signer)
    start = content.index(b"caBX") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    moved = content[:start] + content[end:-12] + content[start:end] + content[-12:]
    assert read_credentials(moved).state in ("valid", "invalid")


def test_what_lies_after_a_jpegs_header_is_passed_over_as_the_library_does(genuine):
    start = genuine.index(b"\xff\xeb")
    end = start + 2 + int.from_bytes(genuine[start + 2 : start + 4], "big")
    moved = genuine[:start] + genuine[end:-2] + genuine[start:end] + genuine[-2:]
    assert c2pa.Reader.try_create("image/jpeg", io.BytesIO(moved)) is None
    assert read_credentials(moved).state == "none"


def test_what_lies_in_pixels_is_not_searched(picture):
    png = encoded(picture, "PNG")
    place = png.index(b"IDAT") + 20
    assert not may_hold_credentials(png[:place] + b"jumdc2pa" + png[place + 8 :], "PNG")


class TestWhatTheySay:
    def test_who_signed_and_what_was_done(self, genuine):
        found = read_credentials(genuine)
        assert found.issuer == "Example Cameras"
        assert found.generator == "Example Painter 1.2"
        assert found.source_type == "trainedAlgorithmicMedia"
        assert found.actions == ("c2pa.created", "c2pa.edited")

    def test_an_edit_may_be_all_that_names_a_source(self, jpeg, signer):
        edit = {"action": "c2pa.edited", "digitalSourceType": f"{SOURCE_TYPES}compositeSynthetic"}
        begun = {"action": "c2pa.created", "digitalSourceType": f"{SOURCE_TYPES}digitalCapture"}
        for actions, source in (
            ([edit], "compositeSynthetic"),
            ([edit, begun], "digitalCapture"),
        ):
            content = signed(jpeg, "JPEG", signer, actions=actions)
            assert read_credentials(content).source_type == source

    @pytest.mark.parametrize(
        "text", ["x" * 100_000, "a\0b" * 999, "\u202eevil\u2066" * 99, "é" * 999, "<script>" * 99]
    )
    def test_texts_are_cut_and_kept_otherwise(self, text, jpeg, signer):
        content = signed(
            jpeg,
            "JPEG",
            signer,
            program={"name": text, "version": text},
            actions=[created(SOURCE_TYPES + text.replace("/", "")), {"action": text}],
        )
        found = read_credentials(content)
        assert found.state in ("valid", "invalid")
        for value in (found.generator, found.source_type, *found.actions, *found.codes):
            assert value is not None
            assert 0 < len(value) <= LONGEST_VALUE
        assert found.generator == text[:LONGEST_VALUE]

    def test_of_many_actions_the_first_are_kept(self, jpeg, signer):
        actions = [created(), *({"action": f"org.example.act{n}"} for n in range(500))]
        found = read_credentials(signed(jpeg, "JPEG", signer, actions=actions))
        assert len(found.actions) == MOST_ACTIONS
        assert found.actions[:2] == ("c2pa.created", "org.example.act0")

    @pytest.mark.parametrize("value", [None, 7, "text", [], {}, [None, 7], {"a": 1}, [[]], [{}]])
    def test_any_value_may_be_of_any_type(self, value, genuine, monkeypatch):
        keys = ("assertions", "claim_generator_info", "claim_generator", "signature_info")
        actions = [{"label": "c2pa.actions", "data": {"actions": value}}]
        results = {"activeManifest": value, "ingredientDeltas": value}
        for store in (
            {"manifests": value, "active_manifest": value, "validation_results": value},
            {"manifests": {"a": value}, "validation_results": results},
            {"manifests": {"a": dict.fromkeys(keys, value)}},
            {"manifests": {"a": {"assertions": actions}}},
        ):
            said = msgspec.json.encode(
                {"active_manifest": "a", "validation_state": "Valid", **store}
            )
            monkeypatch.setattr(c2pa.Reader, "json", lambda _, said=said: said)
            assert read_credentials(genuine).state == "valid"

    @pytest.mark.parametrize("store", ["7", "[]", "{}", '{"validation_state": ["Valid"]}', "{"])
    def test_a_state_that_nobody_knows_is_unread(self, store, genuine, monkeypatch):
        monkeypatch.setattr(c2pa.Reader, "json", lambda _: store)
        assert read_credentials(genuine).state == "unread"


@contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """Yield a port, and the list that later holds what was said by all who connected to it."""
    callers: list[bytes] = []

    def listen() -> None:
        while callers[-1:] != [OURSELVES]:  # connections are accepted in their order
            caller, _ = server.accept()
            with caller:
                callers.append(caller.recv(100))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield server.getsockname()[1], callers
        finally:
            with socket.create_connection(server.getsockname()) as caller:
                caller.sendall(OURSELVES)
            thread.join()


OURSELVES = b"the test itself"


class TestRemoteManifests:
    """A file names an address. Asking it would tell its owner, or open doors inside a network."""

    @staticmethod
    def named(jpeg: bytes, signer: Signer, port: int) -> bytes:
        address = f"http://127.0.0.1:{port}/manifest.c2pa"
        return signed(jpeg, "JPEG", signer, remote=address, embedded=False)

    def test_are_never_fetched(self, jpeg, signer):
        with listening() as (port, callers):
            content = self.named(jpeg, signer, port)
            for trust_list in ("", signer.root):
                found = read_credentials(content, trust_list)
                assert found.state == "remote"
                assert f"http://127.0.0.1:{port}/manifest.c2pa" in found.codes[0]
        assert callers == [OURSELVES]

    def test_would_be_by_the_library_alone(self, jpeg, signer):
        with listening() as (port, callers):
            content = self.named(jpeg, signer, port)
            with pytest.raises(c2pa.C2paError):
                c2pa.Reader("image/jpeg", io.BytesIO(content))
        assert callers[0].startswith(b"GET /manifest.c2pa")

    @pytest.mark.skipif(not SUPPORTED, reason="Linux tells which sockets are opened")
    @pytest.mark.parametrize(
        ("program", "code"),
        [
            ("assert read_credentials(content).state == 'remote'", 0),
            ("c2pa.Reader.try_create('image/jpeg', io.BytesIO(content))", ASKED),
        ],
        ids=["ours", "the library alone"],
    )
    def test_no_name_is_resolved_either(self, program, code, jpeg, signer, tmp_path):
        content = signed(
            jpeg, "JPEG", signer, remote="https://manifests.example.org/m", embedded=False
        )
        (tmp_path / "file.jpg").write_bytes(content)
        done = run_offline([sys.executable, "-c", PROGRAM + program], tmp_path, PYTHONPATH=PATH)
        assert done.returncode == code, done.stderr


PATH = os.pathsep.join(entry for entry in sys.path if entry)
PROGRAM = """
import io, c2pa
from pathlib import Path
from glass_edge.runtime.claims.credentials import read_credentials
content = Path("file.jpg").read_bytes()
"""


class TestTheLibrary:
    def test_is_named_where_it_is_missing(self, genuine, monkeypatch):
        monkeypatch.setitem(sys.modules, "c2pa", None)
        found = read_credentials(genuine)
        assert found.state == "unread"
        assert found.codes == (
            "c2pa-python is not installed: pip install 'glass-edge[provenance]'",
        )

    def test_is_not_loaded_for_files_that_have_none(self, jpeg, genuine, tmp_path):
        (tmp_path / "none.jpg").write_bytes(jpeg)
        (tmp_path / "some.jpg").write_bytes(genuine)
        program = (
            "import sys; from pathlib import Path\n"
            "from glass_edge.runtime.claims.credentials import read_credentials\n"
            "for name in ('none.jpg', 'some.jpg'):\n"
            "    read_credentials(Path(name).read_bytes()); print('c2pa' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": PATH}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.stdout.split() == ["False", "True"], done.stderr

    @pytest.mark.parametrize(
        "error", [RuntimeError("odd"), c2pa.C2paError("Odd: why"), MemoryError()]
    )
    def test_may_raise_anything(self, error, genuine, monkeypatch):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(c2pa.Reader, "try_create", fail)
        found = read_credentials(genuine)
        assert found.state == "unread"
        assert found.codes == (str(error) or "MemoryError",)

    def test_serves_threads_side_by_side(self, picture, genuine, signer):
        other = new_signer("Another House")
        files = [genuine, tampered(genuine), signed(encoded(picture, "PNG"), "PNG", other)]
        expected = [read_credentials(content, signer.root) for content in files]
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda c: read_credentials(c, signer.root), files * 40))
        assert found == expected * 40
        assert [each.state for each in expected] == ["trusted", "invalid", "valid"]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    def test_serves_a_forked_child(self, genuine, signer, tmp_path):
        (tmp_path / "file.jpg").write_bytes(genuine)
        fork = (
            "state = lambda: read_credentials(content).state\n"
            "assert state() == 'valid'\n"
            "child = os.fork()\n"
            "if not child: os._exit(state() != 'valid')\n"
            "assert os.waitpid(child, 0)[1] == 0"
        )
        done = subprocess.run(
            [sys.executable, "-c", f"import os{PROGRAM}{fork}"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": PATH}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def test_leaves_settings_of_the_program_as_they_are(self, jpeg, genuine, signer):
        """Another part of the program may want to fetch what it reads."""
        read_credentials(genuine, signer.root)
        TestRemoteManifests().test_would_be_by_the_library_alone(jpeg, signer)
        with c2pa.Reader("image/jpeg", io.BytesIO(genuine)) as reader:
            assert reader.get_validation_state() == "Valid"


class TestTrustLists:
    def test_are_read_and_their_digest_is_a_files(self, genuine, signer, tmp_path):
        path = tmp_path / "trust.pem"
        path.write_text(f"# überall\n{signer.root}", encoding="utf-8")
        options = ClaimOptions(provenance=True, trust_list=read_trust_list(path))
        found = read_claims(genuine, options).provenance
        assert found.c2pa.state == "trusted"
        assert found.trust_list == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_no_list_has_no_digest(self, genuine):
        assert read_claims(genuine, ClaimOptions(provenance=True)).provenance.trust_list is None

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, r"cannot be read \(No such file or directory\); give a PEM file"),
            (b"", "holds no certificate; give a PEM file"),
            (b"\x30\x82\x01\x0a" * 99, "holds no certificate; give a PEM file"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "a damaged certifi"),
            (b"x" * (MOST_TRUST_BYTES + 1), "is larger than 4 MiB; give a PEM"),
        ],
        ids=["missing", "empty", "DER", "damaged", "large"],
    )
    def test_others_are_refused_in_a_sentence(self, content, words, tmp_path):
        path = tmp_path / "trust.pem"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=words) as caught:
            read_trust_list(path)
        assert str(path) in str(caught.value)
        assert str(caught.value).endswith(".")

    def test_a_folder_is_refused_too(self, tmp_path):
        with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
            read_trust_list(Path(tmp_path))
