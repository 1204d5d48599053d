"""glass-batch on Ray: every image is judged once, whatever is lost, and as without Ray."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import EXAMPLES, Done, launch
from glass_edge.runtime.machine.errors import InputError
from glass_edge.runtime.shards import cluster as cluster_module
from glass_edge.runtime.shards.cluster import ANY_CLUSTER, MOST_TRIES, judge_on_cluster
from glass_edge.runtime.shards.judging import JudgeSettings
from glass_edge.runtime.shards.pool import Pool, options_within, pool_of
from object_storage import ObjectStorage, started
from PIL import Image
from pyarrow import parquet
from ray_cluster import RayCluster, ray_cluster
from waiting import until

from glass_edge import DetectorOptions

# As a program that is installed, it does not look for modules in the working directory.
PROGRAM = "import sys; del sys.path[0]; from glass_edge.runtime.commands.batch import main; main()"
BATCH = [sys.executable, "-c", PROGRAM]
OPTIONS = ("-b", "model.glass", "--engine", "onnxruntime")
CROPS = ("--crops", "64")  # so that a shard takes about a second
IMAGES, IN_SHARD = 200, 10
SHARDS = IMAGES // IN_SHARD
SUMMARY = r"20 shards with 200 images in [\d.]+ s \([\d.]+ images/s\): .*; onnxruntime .*, fp32"
DROPPED = "shards that have no part yet are dropped: run the same command to go on."


# --- how many judge -------------------------------------------------------------------------


def machine(cpus: float, gpus: float = 0, *, alive: bool = True) -> dict:
    """A machine, as Ray describes it."""
    resources = {"CPU": cpus, "GPU": gpus, "memory": 1e9, "node:10.0.0.1": 1.0}
    return {"Alive": alive, "Resources": {name: have for name, have in resources.items() if have}}


class TestThePool:
    @pytest.mark.parametrize(
        ("machines", "options", "expected"),
        [
            ([machine(16)] * 3, {}, Pool(3, 16, 0)),
            ([machine(16)] * 3, {"workers": 4}, Pool(12, 4, 0)),
            ([machine(16), machine(8)], {}, Pool(3, 8, 0)),  # all of the smallest
            ([machine(0), machine(8)], {}, Pool(1, 8, 0)),  # a head that takes no work
            ([machine(6), machine(4)], {"workers": 4}, Pool(2, 4, 0)),
            ([machine(16), machine(16, alive=False)], {}, Pool(1, 16, 0)),
            ([machine(16, 4)] * 2, {}, Pool(8, 4, 1)),  # one for each GPU
            ([machine(16, 4), machine(8, 1)], {}, Pool(5, 4, 1)),
            ([machine(16, 4), machine(64)], {}, Pool(4, 4, 1)),  # not where there is none
            ([machine(16, 4)], {"device": "cpu"}, Pool(1, 16, 0)),
            ([machine(16, 4)], {"workers": 8}, Pool(2, 8, 1)),
            ([machine(16, 4)], {"device": "cuda", "workers": 1}, Pool(4, 1, 1)),
        ],
    )
    def test_has_an_actor_for_each_gpu_or_else_machine(self, machines, options, expected):
        assert pool_of(machines, DetectorOptions(**options)) == expected

    @pytest.mark.parametrize(
        ("machines", "options", "said"),
        [
            ([machine(2), machine(4)], {"workers": 8}, "8 CPUs for an actor (they have 2, 4): "),
            ([machine(0)], {}, "no machine of the cluster has 1 CPU for an actor (they have 0): "),
            ([], {"workers": 2}, "2 CPUs for an actor (they have none): give fewer --workers."),
            ([machine(8)], {"device": "cuda"}, "has a GPU: leave --device out, or give --device "),
        ],
    )
    def test_without_room_is_refused(self, machines, options, said):
        with pytest.raises(InputError, match=re.escape(said)):
            pool_of(machines, DetectorOptions(**options))

    def test_leaves_detectors_no_more_cpus_than_their_actors(self):
        found = options_within(Pool(2, 8, 0), DetectorOptions())
        assert (found.workers, found.threads) == (8, 0)  # threads of one run of the engine: one
        found = options_within(Pool(2, 8, 0), DetectorOptions(mode="latency"))
        assert (found.workers, found.threads) == (1, 8)

    def test_is_said_in_words(self):
        assert str(Pool(1, 1, 0)) == "1 actor with 1 CPU"
        assert str(Pool(3, 16, 1)) == "3 actors with 16 CPUs and a GPU"


# --- no cluster -----------------------------------------------------------------------------


def refused(address: str = ANY_CLUSTER) -> str:
    """Return the sentence with which nothing begins."""
    settings = JudgeSettings(Path("model.glass"), "0" * 64, DetectorOptions(), "out")
    with pytest.raises(InputError) as caught:
        next(judge_on_cluster(settings, [0], address))
    return str(caught.value)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """What listens on this machine, and answers nobody."""
    with socket.create_server(("", 0)) as server:  # Ray makes the machine's own of 127.0.0.1
        server.settimeout(30)
        yield server


def address_of(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


class TestWithoutACluster:
    @pytest.mark.parametrize("library", ["ray", "pandas", "pyarrow"])
    def test_a_missing_library_is_named(self, library, monkeypatch):
        monkeypatch.setitem(sys.modules, library, None)
        expected = f"{library}, which is not installed: pip install 'glass-edge[ray]'."
        assert refused() == f"--ray needs {expected}"

    def test_where_nothing_listens_the_answer_comes_at_once(self, listener):
        address = address_of(listener)
        listener.close()
        before = time.monotonic()
        said = refused(address)
        assert time.monotonic() - before < 1
        assert said.startswith(f"no Ray cluster answers at {address} (Connection refused): start")

    @pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265"])
    def test_addresses_of_other_kinds_are_refused(self, address):
        assert refused(address).startswith(f"{address} is not the address of a cluster's head: ")

    def test_the_one_that_the_environment_names_is_meant(self, listener, monkeypatch):
        address = address_of(listener)
        listener.close()
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert refused().startswith(f"no Ray cluster answers at {address} ")

    @pytest.mark.slow
    def test_an_address_that_means_nothing_is_named(self):
        assert "the Ray cluster nonsense cannot be joined (Invalid address" in refused("nonsense")

    @pytest.mark.slow
    def test_what_does_not_answer_is_given_up(self, listener, monkeypatch):
        monkeypatch.setattr(cluster_module, "JOIN_TIMEOUT", 8.0)  # not 60
        before = time.monotonic()
        assert "was not joined within 8 seconds: see with ray status" in refused(
            address_of(listener)
        )
        assert time.monotonic() - before < 11

    @pytest.mark.slow
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_the_wait_can_be_ended(self, place, listener, number, code):
        run = judging(place, "waits", "--ray", address_of(listener))
        listener.accept()  # by the command
        listener.accept()  # by Ray
        run.send_signal(number)
        assert run.wait(3) == code
        assert DROPPED in run.communicate()[1]


# --- a cluster ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def storage() -> ObjectStorage:
    return started()


@pytest.fixture(scope="module")
def started_cluster(storage) -> Iterator[RayCluster]:
    with ray_cluster(storage.environment) as cluster:
        yield cluster


@pytest.fixture
def cluster(started_cluster) -> RayCluster:
    """Two nodes with one CPU each, on which nothing is judged."""
    while len(started_cluster.nodes) < 2:
        started_cluster.add_node()
    until(lambda: not started_cluster.judging())
    for left in started_cluster.scratch.iterdir():
        pytest.fail(f"an earlier run left {left}")
    return started_cluster


@pytest.fixture(scope="module")
def place(tmp_path_factory, vit_bundle) -> Path:
    """A bundle, photographs, and their plan."""
    place = tmp_path_factory.mktemp("place")
    (place / "model.glass").symlink_to(vit_bundle.path)
    make_photographs(place / "images")
    plan(place, "images")
    # What actors must not take for the library that Ray imports there.
    (place / "pandas.py").write_text("raise SystemExit('a file of the user was imported')")
    return place


def make_photographs(folder: Path) -> None:
    """Cut small photographs, no two alike, out of the examples."""
    folder.mkdir()
    wide, high = 320, 240
    sources = [Image.open(path).convert("RGB") for path in sorted(EXAMPLES.rglob("*.jpg"))]
    for number in range(IMAGES):
        turn, which = divmod(number, len(sources))
        source = sources[which]
        left, top = turn * 37 % (source.width - wide), turn * 53 % (source.height - high)
        source.crop((left, top, left + wide, top + high)).save(folder / f"{number:03}.jpg")


def plan(place: Path, *sources: str, name: str = "plan.jsonl") -> None:
    done = batch(place, "plan", *sources, "-o", name, "--images", IN_SHARD)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def undisturbed(place) -> list[dict]:
    """The records of a run without Ray."""
    assert run(place, "alone").returncode == 0
    return records(place / "alone")


def batch(place: Path, *arguments: object, **options: object) -> Done:
    command = [*BATCH, *map(str, arguments)]
    return subprocess.run(
        command, cwd=place, capture_output=True, text=True, timeout=120, **options
    )


def arguments(out: str, more: Iterable[object]) -> list[str]:
    return ["run", "plan.jsonl", *OPTIONS, *CROPS, "-o", out, *map(str, more)]


def run(place: Path, out: str, *more: object, **options: object) -> Done:
    return batch(place, *arguments(out, more), **options)


def judging(place: Path, out: str, *more: object) -> subprocess.Popen[str]:
    """Start a run in a process group of its own, as shells do."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [*BATCH, *arguments(out, more)], cwd=place, text=True, start_new_session=True, **pipes
    )


def parts(out: Path) -> list[Path]:
    return sorted(out.glob("part-*"))


def begun(place: Path, out: str, count: int = 3) -> None:
    """Wait until some parts are there, and so the run is in its middle."""
    until(lambda: len(parts(place / out)) >= count)
    assert len(parts(place / out)) < SHARDS - 5


def records(out: Path | str, folder: Path | None = None) -> list[dict]:
    """What all parts hold, in order."""
    folder = folder or Path(out).parent
    done = batch(folder, "merge", out, "-o", "merged.jsonl", "--force")
    assert done.returncode == 0, done.stderr
    return json_lines(folder / "merged.jsonl")


def json_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same(found: list[dict], expected: list[dict]) -> None:
    """The same records; numbers may differ in the last bits, because batches were others."""
    assert [record["path"] for record in found] == [record["path"] for record in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"crops", "logits", "probabilities", "score"}:
            assert one[name] == other[name]
        for name in ("logits", "probabilities", "score"):
            assert one[name] == pytest.approx(other[name], abs=1e-5)
        for crop, same in zip(one["crops"], other["crops"], strict=True):
            assert crop.pop("attention") == pytest.approx(same.pop("attention"), abs=1e-5)
            assert crop == same


def assert_whole(place: Path, out: str, expected: list[dict]) -> None:
    """Every image is in one part and once, and nothing but parts was left."""
    rows = [row for part in parts(place / out) for row in parquet.read_table(part).to_pylist()]
    images = sorted(str(path) for path in (place / "images").iterdir())
    assert sorted(row["path"] for row in rows) == images
    assert only_parts(place / out)
    assert_same(records(place / out), [json.loads(json.dumps(record)) for record in expected])


def only_parts(out: Path) -> bool:
    return {path.name for path in out.iterdir()} - {path.name for path in parts(out)} == {
        "plan.jsonl",
        "run.json",
    }


@pytest.mark.slow
class TestUndisturbed:
    def test_is_what_is_said_without_ray_and_by_glass_run(self, place, cluster, undisturbed):
        done = run(place, "ray", "--ray", cluster.address)
        assert done.returncode == 0, done.stderr
        assert_whole(place, "ray", undisturbed)
        done = launch("glass-run", place, place / "images", *OPTIONS, *CROPS, "-o", "run.jsonl")
        assert done.returncode == 0, done.stderr
        assert_same(records(place / "ray"), json_lines(place / "run.jsonl"))

    def test_prints_two_lines(self, place, cluster):
        done = run(place, "lines", "--ray", cluster.address)
        assert done.stdout == ""
        assert re.fullmatch(rf"judging with 2 actors with 1 CPU\.\n{SUMMARY}\n", done.stderr), (
            done.stderr
        )

    def test_uses_all_nodes_at_once_and_one_thread_of_each(self, place, cluster):
        judges = judging(place, "both", "--ray", cluster.address)
        at_once = until(lambda: len(found := cluster.judging()) == 2 and found)
        assert sorted(at_once.values()) == [0, 1]
        found = []
        while judges.poll() is None:
            found += map(running_threads, cluster.judging())
            time.sleep(0.02)
        assert 0.5 < statistics.mean(found) < 1.3  # one judges, others read a little ahead
        assert judges.returncode == 0

    def test_images_do_not_pass_through_the_object_store(self, place, cluster):
        before = cluster.stored_bytes()
        done = run(place, "store", "--ray", cluster.address)
        assert done.returncode == 0
        files = sum(path.stat().st_size for path in (place / "images").iterdir())
        assert files > 1_500_000
        assert cluster.stored_bytes() - before < files / 10

    def test_the_secret_reaches_actors_and_is_written_nowhere(self, place, cluster):
        environment = os.environ | {"GLASS_SEED_KEY": "swordfish"}
        assert run(place, "secret-alone", env=environment).returncode == 0
        done = run(place, "secret", "--ray", cluster.address, env=environment)
        assert done.returncode == 0, done.stderr
        assert_same(records(place / "secret"), records(place / "secret-alone"))
        assert records(place / "secret")[0]["crops"] != records(place / "alone")[0]["crops"]
        for path in [*cluster.folder.rglob("*"), *place.rglob("*")]:
            if path.is_file():
                assert b"swordfish" not in path.read_bytes(), path

    def test_may_be_named_by_the_environment(self, place, cluster):
        environment = os.environ | {"RAY_ADDRESS": cluster.address}
        done = run(place, "named", "--ray", env=environment)
        assert done.returncode == 0, done.stderr
        assert len(parts(place / "named")) == SHARDS

    def test_needs_room(self, place, cluster):
        done = run(place, "room", "--ray", cluster.address, "--workers", "2")
        assert done.returncode == 2
        assert "has 2 CPUs for an actor (they have 1, 1): give fewer --workers." in done.stderr
        assert not parts(place / "room")


def running_threads(process: int) -> int:
    """How many threads of a process have a CPU, or wait for one."""
    count = 0
    for thread in Path("/proc").glob(f"{process}/task/*"):
        with suppress(OSError):  # it has ended
            count += (thread / "stat").read_text().rpartition(")")[2].split()[0] == "R"
    return count


@pytest.mark.slow
class TestDisturbed:
    def test_by_the_end_of_a_process_it_goes_on(self, place, cluster, undisturbed):
        run = judging(place, "process", "--ray", cluster.address)
        begun(place, "process")
        cluster.kill_one_judging()
        assert run.wait() == 0
        assert_whole(place, "process", undisturbed)

    def test_by_the_loss_of_a_node_it_goes_on(self, place, cluster, undisturbed):
        run = judging(place, "node", "--ray", cluster.address)
        begun(place, "node")
        until(lambda: cluster.judging_on(1))
        cluster.remove_last_node()
        assert run.wait() == 0
        assert re.search(SUMMARY, run.communicate()[1])
        assert_whole(place, "node", undisturbed)

    def test_by_its_own_death_it_can_be_run_again(self, place, cluster, undisturbed):
        run_ = judging(place, "driver", "--ray", cluster.address)
        begun(place, "driver")
        run_.kill()
        until(lambda: not cluster.judging(), 10)
        done_before = parts(place / "driver")
        assert 0 < len(done_before) < SHARDS
        assert only_parts(place / "driver")
        assert not list(cluster.scratch.iterdir())
        again = run(place, "driver", "--ray", cluster.address)
        assert again.returncode == 0, again.stderr
        assert f"{len(done_before)} of {SHARDS} shards have their parts already." in again.stderr
        assert_whole(place, "driver", undisturbed)

    def test_by_its_own_death_it_ends_what_it_began(self, place, cluster):
        run = judging(place, "orphans", "--ray", cluster.address, "--crops", 1024)
        until(lambda: len(cluster.judging()) == 2)
        run.kill()
        until(lambda: not cluster.judging(), 5)  # a shard takes longer
        assert not parts(place / "orphans")

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_by_a_signal_it_ends_at_once(self, place, cluster, undisturbed, number, code):
        out = f"signal-{number}"
        run_ = judging(place, out, "--ray", cluster.address)
        begun(place, out)
        os.killpg(run_.pid, number)  # as a terminal does
        assert run_.wait(3) == code
        said = run_.communicate()
        assert said[0] == ""
        lines = said[1].splitlines()
        assert (lines[1], lines[3]) == (DROPPED, "Error: interrupted.")
        assert re.fullmatch(r"\d+ shards? with \d+0 images in .*", lines[2])
        assert len(lines) == 4
        until(lambda: not cluster.judging(), 10)
        assert only_parts(place / out)
        assert not list(cluster.scratch.iterdir())
        assert run(place, out, "--ray", cluster.address).returncode == 0
        assert_whole(place, out, undisturbed)

    def test_by_a_shard_that_ends_every_process_it_goes_on(self, place, cluster, undisturbed):
        """Here each process of whoever judges while only one shard is left is killed."""
        done = run(place, "poison", "--ray", cluster.address)
        assert done.returncode == 0, done.stderr
        parts(place / "poison")[7].unlink()
        run_, killed = judging(place, "poison", "--ray", cluster.address), set()
        while run_.poll() is None:
            for process in cluster.judging():
                with suppress(ProcessLookupError):  # of one that was killed already
                    os.kill(process, signal.SIGKILL)
                killed.add(process)
        assert len(killed) == MOST_TRIES
        assert run_.returncode == 1
        assert f"shard 7: its process was lost {MOST_TRIES} times, " in run_.communicate()[1]
        assert run(place, "poison", "--ray", cluster.address).returncode == 0
        assert_whole(place, "poison", undisturbed)

    def test_a_node_that_comes_later_takes_part(self, place, storage):
        """On a new cluster: for 180 s Ray Data keeps CPUs there for a run that was ended."""
        with ray_cluster(storage.environment) as cluster:
            run = judging(place, "later", "--ray", cluster.address, "--crops", 1024)
            assert run.stderr
            assert run.stderr.readline() == "judging with 1 actor with 1 CPU.\n"
            until(lambda: cluster.judging_on(0))
            cluster.add_node()
            until(lambda: cluster.judging_on(1), 60)
            run.send_signal(signal.SIGINT)
            assert run.wait() == 130

    def test_by_the_loss_of_the_cluster_it_says_so(self, place, storage):
        with ray_cluster(storage.environment) as cluster:
            run = judging(place, "lost", "--ray", cluster.address)
            begun(place, "lost")
            cluster.lose_head()
            assert run.wait() == 2
            expected = f"Error: the Ray cluster {cluster.address} was lost: run the same command "
            assert expected in run.communicate()[1]
            assert only_parts(place / "lost")
            assert not list(cluster.scratch.iterdir())


@pytest.mark.slow
class TestShardsThatFail:
    @pytest.fixture
    def damaged(self, tmp_path, place) -> Path:
        """A plan of a damaged archive, of images that are gone, and of others."""
        (tmp_path / "model.glass").symlink_to(place / "model.glass")
        folder = tmp_path / "images"
        folder.mkdir()
        images = sorted((place / "images").iterdir())[: 3 * IN_SHARD]
        for image in images:
            (folder / image.name).write_bytes(image.read_bytes())
        (tmp_path / "cut.tar").write_bytes(b"no archive at all")
        plan(tmp_path, "cut.tar", "images")
        for image in images[IN_SHARD : 2 * IN_SHARD]:
            (folder / image.name).unlink()
        return tmp_path

    def test_are_told_and_cost_no_other(self, damaged, cluster):
        alone = run(damaged, "alone")
        done = run(damaged, "out", "--ray", cluster.address)
        told = [line for line in done.stderr.splitlines() if line.startswith("shard ")]
        assert [line for line in alone.stderr.splitlines() if line.startswith("shard ")] == told
        assert done.returncode == alone.returncode == 1
        assert [part.name for part in parts(damaged / "out")] == [
            part.name for part in parts(damaged / "alone")
        ]
        assert any("none of its 10 images could be read" in line for line in told)

    def test_for_want_of_glass_edge_are_told(self, place, storage, tmp_path):
        (tmp_path / "glass_edge").mkdir()
        missing = "raise ModuleNotFoundError(\"No module named 'glass_edge'\")"
        (tmp_path / "glass_edge" / "__init__.py").write_text(missing)
        environment = dict(os.environ)
        with ray_cluster(storage.environment | {"PYTHONPATH": str(tmp_path)}) as cluster:
            done = run(place, "none", "--ray", cluster.address, env=environment)
        assert done.returncode == 2
        expected = "No module named 'glass_edge'): is the same glass-edge installed on all of its"
        assert f"Error: the cluster cannot judge (ModuleNotFoundError: {expected}" in done.stderr

    def test_for_want_of_a_bundle_end_the_run(self, tmp_path, place, cluster):
        """The bundle is moved away before actors open it, as where a machine lacks it."""
        bundle = tmp_path / "model.glass"
        bundle.symlink_to((place / "model.glass").resolve())
        run_ = judging(place, "bundle", "-b", bundle, "--ray", cluster.address)
        assert run_.stderr
        assert run_.stderr.readline() == "judging with 2 actors with 1 CPU.\n"
        bundle.unlink()
        assert run_.wait() == 2
        said = run_.communicate()[1]
        assert f"cannot judge: bundle {bundle}: no such folder" in said
        assert said.startswith("Error: the machine ")
        assert said.endswith("once that machine can judge or has left the cluster.\n")
        assert only_parts(place / "bundle")
        assert not parts(place / "bundle")


@pytest.mark.slow
class TestObjectStorage:
    def test_is_read_and_written_by_all_nodes(self, place, cluster, storage, tmp_path, undisturbed):
        """As the documentation tells it: images and parts on object storage, none here."""
        (tmp_path / "model.glass").symlink_to((place / "model.glass").resolve())
        images = {path.name: path.read_bytes() for path in (place / "images").iterdir()}
        bucket = storage.bucket({f"photos/{name}": images[name] for name in images})
        with pytest.MonkeyPatch.context() as patch:
            for name, value in storage.environment.items():
                patch.setenv(name, value)
            plan(tmp_path, f"s3://{bucket}/photos/")
            out = f"s3://{bucket}/out/"
            judges = judging(tmp_path, out, "--ray", cluster.address)
            until(lambda: sorted(cluster.judging().values()) == [0, 1])
            assert judges.wait() == 0
            found = records(out, tmp_path)
        keys = [key for key in storage.keys(bucket) if key.startswith("out/")]
        assert len([key for key in keys if key.startswith("out/part-")]) == SHARDS
        assert len(keys) == SHARDS + 2  # run.json and plan.jsonl
        assert not storage.unfinished(bucket)
        names = [record["path"].rpartition("/")[2] for record in found]
        assert sorted(names) == sorted(images)
        for record, same in zip(found, undisturbed, strict=True):
            assert record["path"] == f"s3://{bucket}/photos/{Path(same['path']).name}"
            assert record["score"] == pytest.approx(same["score"], abs=1e-5)
            assert record["verdict"] == same["verdict"]
