"""glass-bench serve: loads that hide nothing, a server as most write it, and what is reported."""

from __future__ import annotations

import math
import os
import signal
import socketserver
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest
import tiny_server
from conftest import EXAMPLES, ROOT, call, refusal
from fastapi.testclient import TestClient
from glass_edge.benchmarks.measuring.cells import multiple
from glass_edge.benchmarks.measuring.samples import Samples
from glass_edge.benchmarks.measuring.usage import MemoryCurve, cpu_seconds
from glass_edge.benchmarks.serving import load, measure, servers
from glass_edge.benchmarks.serving.answers import LOST, TIMED_OUT, Load
from glass_edge.benchmarks.serving.entry import Entry, ServeOptions
from glass_edge.benchmarks.serving.load import LoadGenerator, Target
from glass_edge.benchmarks.serving.report import Overload, ServerResult, ServingReport
from glass_edge.benchmarks.serving.rest import wait_for_rest
from glass_edge.benchmarks.serving.servers import Server, ServerCommand
from glass_edge.benchmarks.serving.slowdown import seconds_alone, slowdown
from glass_edge.benchmarks.serving.straightforward import SEED, make_app
from glass_edge.runtime.machine.environment import environment

from glass_edge import Bundle, Detector, DetectorOptions, EngineError, ImageError

run = partial(call, "glass-bench", ROOT, "serve")
PHOTOS = sorted(map(str, EXAMPLES.glob("*/*.jpg")))
TINY = ServerCommand("tiny", "tiny_server", (), ready="/ready", path="/slow")
SECONDS = tiny_server.SECONDS
LINUX = Path("/proc/self/smaps_rollup").exists()


@pytest.fixture(scope="module")
def tiny() -> Iterator[Server]:
    with Server(TINY) as server:
        yield server


@pytest.fixture
def at(tiny):
    """A path of the tiny server."""
    return partial(Target, tiny.target.port)


@pytest.fixture(scope="module")
def generator(tmp_path_factory) -> LoadGenerator:
    """Sends a small file and one that no socket's buffers hold, in turn."""
    folder = tmp_path_factory.mktemp("images")
    for number, size in enumerate((10, 20_000_000)):
        (folder / str(number)).write_bytes(b"image" + bytes(size))
    return LoadGenerator([str(folder / "0"), str(folder / "1")])


@pytest.fixture(scope="module")
def light(tmp_path_factory) -> LoadGenerator:
    path = tmp_path_factory.mktemp("light") / "image"
    path.write_bytes(b"image")
    return LoadGenerator([str(path)])


class TestAClosedLoad:
    def test_sends_when_the_last_is_answered(self, light, at):
        found = light.closed(at("/slow"), 1, 1)
        assert 5 < found.rate <= 1 / SECONDS
        assert found.counts.keys() == {"200"}
        assert SECONDS <= found.percentile(50) < 3 * SECONDS

    def test_of_several_clients_queues_at_a_server_that_takes_one_at_a_time(self, light, at):
        found = light.closed(at("/slow"), 4, 1)
        assert 5 < found.rate <= 1 / SECONDS + 1
        assert found.percentile(50) > 3.5 * SECONDS

    def test_takes_little_of_the_cpus_and_says_how_much(self, light, at):
        found = light.closed(at("/slow"), 1, 0.5)
        assert 0 < found.cpu_seconds < found.elapsed
        assert found.cpu_share == found.cpu_seconds / found.elapsed


class TestAnOpenLoad:
    def test_below_capacity_is_answered_at_its_own_rate(self, light, at):
        found = light.open(at("/slow"), 8, 1)
        assert found.counts.keys() == {"200"}
        assert 1 <= found.answered <= 20  # 8 are expected, and Poisson's spread is 2.8

    @pytest.mark.slow
    def test_above_capacity_waits_longer_and_longer(self, light, at, monkeypatch):
        """The times are those since requests were due, not since a connection was free."""
        monkeypatch.setattr(load, "MOST_CONNECTIONS", 2)
        found = light.open(at("/slow"), 3 / SECONDS, 1)
        waits = found.latencies["200"]  # in the order of answers
        third = len(waits) // 3
        first, last = statistics.median(waits[:third]), statistics.median(waits[-third:])
        assert last > first + third * SECONDS
        assert found.longest > 1.5
        assert found.rate <= 1 / SECONDS + 1

    @pytest.mark.slow
    def test_counts_what_was_due_while_the_server_stalled(self, light, at):
        found = light.open(at("/stalling"), 30, 1.5)
        late = [seconds for seconds in found.latencies["200"] if seconds > 0.1]
        assert len(late) >= 5  # a client that waits for its answer would have counted one


def test_each_answer_says_which_image_it_is_of(tmp_path, at):
    for name, size in (("small", 10), ("large", 2000)):
        (tmp_path / name).write_bytes(bytes(size))
    sending = LoadGenerator([str(tmp_path / "large"), str(tmp_path / "small")])
    seconds = defaultdict(list)
    for image, each in sending.closed(at("/by_size"), 1, 0.5).of_images:
        seconds[image].append(each)
    assert min(seconds[0]) > SECONDS > statistics.median(seconds[1])


class TestNothingIsDropped:
    def test_every_status_is_counted(self, light, at):
        found = light.open(at("/third"), 100, 0.5)
        good, refused = found.counts["200"], found.counts["503"]
        assert good + refused <= found.requests
        assert refused == pytest.approx(good / 2, abs=2)

    def test_an_answer_that_comes_before_all_is_sent_is_taken(self, generator, at, monkeypatch):
        monkeypatch.setattr(load, "ANSWER_TIMEOUT", 5.0)
        assert generator.every_image(at("/full")) == ["503", "503"]
        busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        with answering(busy, stay=True) as port:
            assert generator.every_image(Target(port, "/")) == ["503", "503"]

    @pytest.mark.slow
    def test_lost_connections_are_counted(self, light):
        """Those that are closed within an answer, and then nobody listens."""
        with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this") as port:
            assert light.every_image(Target(port, "/")) == [LOST]
            found = light.open(Target(port, "/"), 50, 0.5)
        assert found.counts.keys() == {LOST}
        assert math.isnan(found.percentile(50))
        assert found.rate == 0
        assert light.closed(Target(port, "/"), 2, 0.5).counts.keys() == {LOST}

    def test_clients_give_up(self, light, at, monkeypatch):
        monkeypatch.setattr(load, "ANSWER_TIMEOUT", 0.3)
        found = light.open(at("/silent"), 20, 0.5)
        assert found.counts.keys() == {TIMED_OUT}
        assert 0.3 <= found.longest < 3


def test_large_images_arrive_whole(generator, at):
    assert generator.every_image(at("/slow")) == ["200", "200"]


@contextmanager
def answering(reply: bytes, *, stay: bool = False) -> Iterator[int]:
    """Reply as soon as anything comes, read no more, and close the connection or stay."""
    ended = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 10)
            self.request.sendall(reply)
            if stay:
                ended.wait()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            ended.set()
            server.shutdown()


def test_percentiles_are_those_of_the_standard_library():
    seconds = tuple(value**2 / 1e3 for value in range(1, 38))
    found = a_load({"200": seconds, "503": (99.0,)})
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    for percent in (50, 90, 99):
        assert found.percentile(percent) == pytest.approx(cuts[percent - 1])
    assert found.longest == 99


def test_a_server_that_does_not_start_is_an_error_with_its_sentence():
    with pytest.raises(EngineError, match=r"tiny ended: Error: there is no such bundle\."):
        Server(replace(TINY, arguments=("--refuse",)))


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setattr(servers, "START_TIMEOUT", 30.0)
    with Server(TINY) as server:
        server.check_alive()


def test_a_server_ends_with_its_block():
    with Server(TINY) as server:
        port = server.target.port
    assert LoadGenerator([PHOTOS[0]]).every_image(Target(port, "/slow")) == [LOST]


@pytest.fixture(scope="module")
def scores(vit_bundle) -> list[float]:
    """P(fake) of each photograph, as the straightforward server answers."""
    with TestClient(make_app(vit_bundle)) as asked:
        answers = [
            asked.post("/judge", files={"file": Path(each).read_bytes()}).json() for each in PHOTOS
        ]
    return [answer["score"] for answer in answers]


def detected(bundle: Bundle, seed: int) -> list[float]:
    detector = Detector(bundle, DetectorOptions(fixed_seed=seed))
    return [verdict.score for verdict in detector.detect(PHOTOS)]


def test_the_straightforward_server_judges_as_a_detector_given_the_same_crops(scores, vit_bundle):
    assert scores == pytest.approx(detected(vit_bundle, SEED), abs=1e-3)


def test_other_crops_would_have_been_noticed(scores, vit_bundle):
    other = detected(vit_bundle, SEED + 1)
    assert max(abs(a - b) for a, b in zip(scores, other, strict=True)) > 3e-3


@pytest.mark.slow
class TestAnEntry:
    OPTIONS = ServeOptions(seconds=0.3, connections=2, overload=0.5)

    def test_is_measured_in_rounds_and_then_under_overload(self, light, tiny):
        entry = Entry(tiny, InThisProcess(light), self.OPTIONS)
        entry.warm_up(["image"])
        for _ in range(2):
            entry.measure()
        entry.measure_overload()
        found = entry.result()
        assert [len(found.alone), len(found.saturated), len(found.half)] == [2, 2, 2]
        rates = [each.rate for each in found.saturated]
        assert found.overload.rate == pytest.approx(5 * statistics.median(rates))
        assert found.overload.load.percentile(50) > found.half[0].percentile(50)
        assert found.overload.after.rate > 0
        assert bool(found.overload.held) == LINUX
        assert len(list(found.loads)) == 8

    def test_that_refuses_an_image_names_it(self, generator, at, tiny, monkeypatch):
        monkeypatch.setattr(tiny, "target", at("/full"))
        entry = Entry(tiny, InThisProcess(generator), self.OPTIONS)
        with pytest.raises(ImageError, match=r"small\.jpg: tiny answered 503\. Leave it out"):
            entry.warm_up(["small.jpg", "large.jpg"])

    def test_that_judges_nothing_is_an_error(self, light, at, tiny, monkeypatch):
        monkeypatch.setattr(tiny, "target", at("/full"))
        entry = Entry(tiny, InThisProcess(light), self.OPTIONS)
        with pytest.raises(EngineError, match=r"did not judge images steadily .*\d x 503"):
            entry.measure()

    def test_whose_server_dies_of_overload_is_refused(self, light):
        refusals = []
        with Server(TINY) as server:
            entry = Entry(server, InThisProcess(light), self.OPTIONS)
            entry.measure()
            os.kill(server.pid, signal.SIGKILL)
            measure.measure_overloads([entry], refusals)
        assert entry.result().overload is None
        assert [(each.name, each.reason.split(":")[0]) for each in refusals] == [
            ("tiny, overload", "tiny ended")
        ]


@pytest.mark.skipif(not LINUX, reason="Linux only")
@pytest.mark.slow
def test_memory_is_watched_and_rest_is_waited_for():
    code = "held = bytearray(10**8); sum(range(10**8)); import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5); " + code]) as busy:
        with MemoryCurve(busy.pid, 1.0) as memory:
            time.sleep(1)
            wait_for_rest("busy", busy.pid)
        used = cpu_seconds(busy.pid)
        time.sleep(0.5)
        assert cpu_seconds(busy.pid) - used < 0.1
        busy.kill()
    assert memory.held[-1] - memory.held[0] > 9e7


class InThisProcess:
    """Stands for the load generator's own process, which takes seconds to start."""

    def __init__(self, generator: LoadGenerator) -> None:
        self._generator = generator

    def ask(self, method, *arguments):
        return method(self._generator, *arguments)


@pytest.mark.slow
def test_everyone_takes_part_or_says_why_not(vit_bundle, make_precision, tmp_path, monkeypatch):
    """A straightforward server stands in glass-serve's place."""
    monkeypatch.setattr(
        measure,
        "glass_serve",
        lambda bundle, _: replace(servers.straightforward(bundle), name="glass-serve"),
    )
    half = make_precision("vit", "bf16")
    done = run(*PHOTOS[:2], "-b", vit_bundle.path, "--straightforward-bundle", half.path,
               "--rounds", 2, "--seconds", 1, "--overload", 1, "--connections", 3,
               "-o", tmp_path / "serve.json", "-o", tmp_path / "serve.md")  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode((tmp_path / "serve.json").read_bytes(), type=ServingReport)
    assert (tmp_path / "serve.md").read_text() == done.stdout == report.to_markdown()
    plain = f"straightforward, {vit_bundle.name}"
    assert [each.name for each in report.servers] == ["glass-serve", plain]
    assert all(len(each.half) == len(report.files.seconds) == 2 for each in report.servers)
    assert {"fastapi", "uvicorn", "h11"} <= report.libraries.keys()
    (refused,) = report.refusals
    assert refused.name == f"straightforward, {half.name}"
    assert "ended: " in refused.reason


def a_load(latencies: dict[str, tuple[float, ...]], answered: int = 100) -> Load:
    """Images are sent in turn, two of them."""
    requests = sum(map(len, latencies.values()))
    images = tuple(number % 2 for number in range(len(latencies.get("200", ()))))
    return Load(10.0, answered, latencies, images, requests, cpu_seconds=0.5, elapsed=12.5)


def a_server(name: str, rates: tuple[int, int]) -> ServerResult:
    alone = a_load({"200": (0.05, 0.06)})
    saturated = tuple(a_load({"200": (0.5,)}, 10 * rate) for rate in rates)
    overload = Overload(
        rate=100.0,
        load=a_load({"200": (0.2, 0.4), "503": (0.001,) * 1234, LOST: (9.0,)}, 150),
        held=(100_000_000, 300_000_000, 120_000_000),
        rest_seconds=2.0,
        after=a_load({"200": (0.5,)}, 10 * rates[0]),
    )
    return ServerResult(name, (alone, alone), saturated, (alone, alone), overload)


@pytest.fixture(scope="module")
def report() -> ServingReport:
    return ServingReport(
        schema=1,
        command="glass-bench serve",
        environment=environment(),
        libraries={"h11": "0.16.0"},
        images=2,
        image_bytes=1.5e6,
        bundle="gl.glass",
        engine="openvino",
        rounds=2,
        seconds=10.0,
        connections=16,
        overload_seconds=60.0,
        overload_factor=5.0,
        files=Samples((0.04, 0.08)),
        servers=(a_server("glass-serve", (20, 10)), a_server("straightforward", (10, 5))),
        refusals=(),
    )


def rows(table: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {cells[0]: cells[1:] for cells in lines}


def test_speeds_are_compared_within_a_round(report):
    """A machine that is slow in one round is slow for all in it."""
    found = rows(report.speed_table())
    assert found["glass-serve"][3:] == ["0.80", "1.00"]
    assert found["straightforward"][3:] == ["0.40", "2.00"]
    assert found["glass-run"][3:] == ["1.00", "0.80"]
    assert found["glass-serve"][:2] == ["55.0 (55.0 to 55.0)", "59.9 (59.9 to 59.9)"]


def test_a_slowdown_compares_an_image_with_itself(report):
    """A large image is no slower for being large: here the small one is, by 3 times."""
    alone = (a_load({"200": (0.01, 0.1, 0.03, 0.1)}), a_load({"200": (0.02, 0.3)}))
    half = a_load({"200": (0.06, 0.1), "503": (0.001,)})
    server = msgspec.structs.replace(report.servers[0], alone=alone, half=(half, half))
    assert seconds_alone(alone) == {0: 0.02, 1: 0.1}
    assert server.slowdowns == pytest.approx([2.98, 2.98])  # of 1 and 3
    found = msgspec.structs.replace(report, servers=(server,))
    row = rows(found.half_table())["glass-serve"]
    assert row[5] == "2.98 (2.98 to 2.98)"
    p99 = 0.0996
    of_p99 = (p99 / 0.1, p99 / 0.2972)
    assert server.ratios_of_p99 == pytest.approx(of_p99)
    assert row[4].startswith(f"{statistics.mean(of_p99):.2f} (")


def test_a_slowdown_is_of_images_that_were_also_sent_alone():
    half = a_load({"200": (0.06, 0.1)})
    assert slowdown(half, {1: 0.05}, 99) == pytest.approx(2)
    assert math.isnan(slowdown(half, {}, 99))
    assert multiple((math.nan, math.nan)) == ""
    assert multiple((math.nan, 2.0)) == "2.00"


def test_overload_is_told_in_full(report):
    found = rows(report.overload_table())["glass-serve"]
    assert found == ["100.0", "15.0", "300.0", "398.0", "9000.0",
                     "200: 2; 503: 1,234; connection lost: 1"]  # fmt: skip
    endured = rows(report.endurance_table())["straightforward"]
    assert endured == ["100", "300", "120", "300", "2.0", "10.0", "1.50"]


def test_a_server_that_did_not_outlive_the_overload_has_no_row(report):
    dead = msgspec.structs.replace(report.servers[1], overload=None)
    found = msgspec.structs.replace(report, servers=(report.servers[0], dead))
    assert "straightforward" not in found.overload_table() + found.endurance_table()
    assert "straightforward" in found.half_table()
    assert found.to_markdown()


def test_the_page_says_what_the_load_generator_took(report):
    words = report.to_markdown()
    assert "at most 4.0% of one CPU" in words
    assert "in at most 500 connections; clients give up after 30 s" in words


def test_wrong_usage_is_one_sentence(vit_bundle, fake_second_bundle):
    assert "no-such-folder" in refusal(run("no-such-folder/*.jpg", "-b", vit_bundle.path))
    assert "not-there.glass" in refusal(run(PHOTOS[0], "-b", "not-there.glass"))
    beside = ("--straightforward-bundle", fake_second_bundle.path)
    said = refusal(run(PHOTOS[0], "-b", vit_bundle.path, *beside))
    assert "do not tell the same classes apart" in said


def test_an_image_that_cannot_be_judged_is_named(vit_bundle, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(Path(PHOTOS[0]).read_bytes()[:3000])
    done = run(broken, "-b", vit_bundle.path, "--seconds", 0.1)
    assert f"{broken}: " in (said := refusal(done))
    assert "Leave it out of the benchmark." in said
