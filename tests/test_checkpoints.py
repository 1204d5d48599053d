"""Checkpoints as people have them: wrapped, averaged, sharded, or another file altogether."""

from __future__ import annotations

import argparse
import collections
import gzip
import hashlib
import json
import pathlib
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import call, refusal
from glass_edge.benchmarks.contenders.pytorch import PyTorchContender
from glass_edge.benchmarks.measuring.bundles import load_fitting
from glass_edge.export.checkpoint import read_checkpoint
from glass_edge.export.checkpoint_file import checkpoint_digest
from glass_edge.export.errors import CheckpointError
from glass_edge.export.loading import load_model
from networks import random_glass
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from glass_edge import Bundle

KEY = "global_model.conv1.weight"


@cache
def state() -> dict[str, torch.Tensor]:
    return random_glass("resnet").state_dict()


@cache
def average() -> dict[str, torch.Tensor]:
    """Other weights for the same network."""
    return {key: value * 0.5 if value.is_floating_point() else value for key, value in
            state().items()}  # fmt: skip


def prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in tensors.items()}


def saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def assert_loads(path: Path, expected: dict[str, torch.Tensor]) -> None:
    found = load_model(path).model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


BOTH_KINDS = {
    "timm": lambda: {"state_dict": state(), "state_dict_ema": average(), "epoch": 3},
    "model and ema": lambda: {"model": state(), "ema": average()},
    "model and model_ema": lambda: {"model": state(), "model_ema": average()},
    "ema_state_dict": lambda: {"model_state_dict": state(), "ema_state_dict": average()},
    "an averaged model": lambda: {
        "model": state(),
        "swa_model": {"n_averaged": torch.tensor(9)} | prefixed("module.", average()),
    },
    "both in one state dict": lambda: {
        "state_dict": prefixed("model.", state()) | prefixed("model_ema.module.", average())
    },
    "ema_pytorch": lambda: (
        {"initted": torch.tensor([True]), "step": torch.tensor([7])}
        | prefixed("online_model.", state())
        | prefixed("ema_model.", average())
    ),
    # These two keep the average under the plain name while they save.
    "Lightning's WeightAveraging": lambda: {
        "state_dict": prefixed("model.", average()),
        "current_model_state": prefixed("model.", state()),
        "averaging_state": {"n_averaged": torch.tensor(9)},
    },
    "mmengine's EMAHook": lambda: {
        "meta": {},
        "message_hub": {},
        "state_dict": average(),
        "ema_state_dict": {"steps": torch.tensor(9)} | prefixed("module.", state()),
    },
}


class TestAveragedWeights:
    @pytest.mark.parametrize("habit", BOTH_KINDS)
    def test_are_taken_where_there_are_any_and_the_raw_ones_on_request(self, habit, tmp_path):
        path = saved(BOTH_KINDS[habit](), tmp_path / "gl.pt")
        for asked, taken, expected in (
            (None, "ema", average()),
            ("ema", "ema", average()),
            ("raw", "raw", state()),
        ):
            found = read_checkpoint(path, asked)
            assert (found.weights, found.both) == (taken, True)
            assert found.state.keys() == expected.keys()
            assert all(torch.equal(found.state[key], expected[key]) for key in expected)

    def test_of_pytorchs_own_averaged_model(self, tmp_path):
        model = random_glass("resnet")
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        averaged.update_parameters(model)
        path = saved(averaged.state_dict(), tmp_path / "gl.pt")
        assert_loads(path, state())
        found = read_checkpoint(path)
        assert (found.weights, found.both, found.notes) == ("ema", False, ())

    def test_of_parameters_alone_are_completed_by_the_models_buffers(self, tmp_path):
        names = dict(random_glass("resnet").named_parameters())
        parameters = {key: average()[key] for key in names}
        path = saved({"model": state(), "ema": {"shadow": parameters}}, tmp_path / "gl.pt")
        assert_loads(path, state() | parameters)

    @pytest.mark.parametrize(
        "ema",
        [
            {"decay": 0.99, "shadow_params": list(average().values())},
            {key.replace(".", ""): value for key, value in average().items()},
            nn.Linear(2, 2),
        ],
        ids=["a list", "other keys", "an object"],
    )
    def test_that_cannot_be_told_apart_are_not_passed_over_silently(self, ema, tmp_path):
        path = saved({"model": state(), "model_ema": ema}, tmp_path / "gl.pt")
        with pytest.raises(CheckpointError, match=r"averaged weights \(EMA\) in model_ema.*raw"):
            read_checkpoint(path)
        found = read_checkpoint(path, "raw")
        assert torch.equal(found.state[KEY], state()[KEY])
        assert found.notes[-1].startswith("averaged weights (EMA) in model_ema")

    def test_settings_of_an_average_are_none(self, tmp_path):
        content = {"model": state(), "ema": None, "ema_decay": 0.99, "swa": {"start": 3}}
        assert read_checkpoint(saved(content, tmp_path / "gl.pt")).weights == "raw"

    def test_that_are_asked_for_must_be_there(self, tmp_path):
        raw, ema = (saved({name: state()}, tmp_path / f"{name}.pt") for name in ("model", "ema"))
        with pytest.raises(CheckpointError, match=r"no averaged weights.*leave --weights ema out"):
            read_checkpoint(raw, "ema")
        with pytest.raises(CheckpointError, match=r"only averaged.*leave --weights raw out"):
            read_checkpoint(ema, "raw")

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("words", "taken", "other"), [((), "ema", "raw"), (("--weights", "raw"), "raw", "ema")]
    )
    def test_the_export_says_and_records_what_it_took(self, words, taken, other, tmp_path):
        saved({"model": state(), "ema": average()}, tmp_path / "gl.pt")
        done = call("glass-export", tmp_path, "gl.pt", *words)
        assert done.returncode == 0, done.stderr
        names = {"ema": "EMA", "raw": "raw"}
        assert (
            f"weights     {names[taken]} (the checkpoint also holds {names[other]} weights; "
            f"--weights {other} takes them)"
        ) in done.stdout.splitlines()
        bundle = Bundle.open(tmp_path / "gl.glass")
        entry = bundle.manifest.checkpoint
        assert (entry.weights, entry.both) == (taken, True)
        # A benchmark compares the bundle with the weights that it was made of.
        loaded = load_fitting(tmp_path / "gl.pt", "auto", [bundle])
        plain = PyTorchContender.plain(tmp_path / "gl.pt", "auto", bundle)
        assert (loaded.checkpoint.weights, plain.weights) == (taken, taken)
        saved(state(), tmp_path / "plain.pt")
        sentence = refusal(call("glass-export", tmp_path, "plain.pt", "--weights", "ema"))
        assert "leave --weights ema out" in sentence


WRAPPED = {
    "Lightning": lambda s: {"state_dict": prefixed("model.", s), "epoch": 3, "loops": {}},
    "another name in Lightning": lambda s: {"state_dict": prefixed("classifier.", s)},
    "DeepSpeed": lambda s: {"module": s, "optimizer": None, "ds_version": "0.15"},
    "net": lambda s: {"net": s, "acc": 91.0},
    "numbers beside the tensors": lambda s: {"epoch": 3, "best": 0.9, "args": {"lr": 1}} | s,
    "wrapped twice": lambda s: {"checkpoint": {"model": prefixed("module.", s)}},
    "FSDP": lambda s: {
        f"_fsdp_wrapped_module.{key}".replace("layer1.", "layer1._fsdp_wrapped_module."): value
        for key, value in s.items()
    },
    "activation checkpointing": lambda s: {
        key.replace("layer1.0.", "layer1.0._checkpoint_wrapped_module."): value
        for key, value in s.items()
    },
    "one object under two names": lambda s: {"state_dict": s, "model": dict(s)},
    "an optimizer beside it": lambda s: {
        "model": s,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3}]},
    },
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_the_keys_tell_where_the_network_is(wrapper, tmp_path):
    assert_loads(saved(WRAPPED[wrapper](state()), tmp_path / "gl.pt"), state())


def test_several_networks_are_named(tmp_path):
    path = saved({"student": state(), "teacher": average()}, tmp_path / "gl.pt")
    with pytest.raises(CheckpointError, match=r"several networks \(student\.\*, teacher\.\*\)"):
        read_checkpoint(path)


def test_tensors_outside_the_network_are_left_out_aloud(tmp_path):
    content = {"state_dict": prefixed("model.", state()) | {"loss.weight": torch.ones(2)}}
    path = saved(content, tmp_path / "gl.pt")
    assert_loads(path, state())
    (note,) = read_checkpoint(path).notes
    assert note == "1 tensors outside the GLASS were left out (loss.weight is the first)."


def test_a_tensor_more_in_the_network_is_not_left_out(tmp_path):
    """It may be a part that this GLASS lacks."""
    path = saved(state() | {"gate.weight": torch.ones(2)}, tmp_path / "gl.pt")
    with pytest.raises(CheckpointError, match=r"1 unexpected: gate\.weight"):
        load_model(path)


class Hyperparameters:
    def __init__(self) -> None:
        self.width = 3


class Attributes(dict):
    pass


HARMLESS = {
    "a namespace": argparse.Namespace(lr=1e-3, nested=argparse.Namespace(a=1)),
    "a path": pathlib.PurePosixPath("runs/3"),
    "a NumPy number": np.float64(0.9),
    "an array": np.zeros(3),
    "a class of the training's own": Hyperparameters(),
    "a function": torch.nn.functional.relu,
}


class TestObjectsBesideTheWeights:
    @pytest.mark.parametrize("what", HARMLESS)
    def test_are_passed_over(self, what, tmp_path):
        content = {"state_dict": state(), "hyper_parameters": {"args": HARMLESS[what]}}
        assert_loads(saved(content, tmp_path / "gl.pt"), state())

    def test_are_never_loaded(self, tmp_path, monkeypatch):
        def run(self) -> None:
            raise AssertionError("the class was used")

        content = {"state_dict": state(), "args": Hyperparameters()}
        path = saved(content, tmp_path / "gl.pt")
        monkeypatch.setattr(Hyperparameters, "__init__", run)
        monkeypatch.setattr(Hyperparameters, "__setstate__", run, raising=False)
        assert_loads(path, state())

    def test_a_namespace_in_the_format_before_pytorch_1_6(self, tmp_path):
        content = {"state_dict": state(), "hyper_parameters": argparse.Namespace(lr=1e-3)}
        torch.save(content, tmp_path / "gl.pt", _use_new_zipfile_serialization=False)
        assert_loads(tmp_path / "gl.pt", state())

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (nn.Linear(2, 2), r"holds objects \(torch\.nn\.modules\.linear\.Linear\)"),
            ({"model": nn.Linear(2, 2), "ema": nn.Linear(2, 2)}, r"\(EMA\) in ema"),
            ({"args": Attributes(a=1)} | state(), r"objects of class \S*Attributes.*for safety"),
            (
                {KEY: Hyperparameters()} | {k: v for k, v in state().items() if k != KEY},
                r"global_model\.conv1\.weight is an object of class \S*Hyperparameters",
            ),
            (
                {"args": collections.defaultdict(list, a=[1])} | state(),
                r"objects of class collections\.defaultdict.*for safety",
            ),
        ],
        ids=["a module", "two modules", "a mapping", "in place of a tensor", "a defaultdict"],
    )
    def test_in_the_way_are_named_without_torchs_advice(self, content, sentence, tmp_path):
        path = saved(content, tmp_path / "gl.pt")
        with pytest.raises(CheckpointError, match=sentence) as raised:
            load_model(path)
        assert_is_no_advice(str(raised.value))

    def test_of_very_many_classes_are_refused_before_they_cost_time(self, tmp_path):
        class_names = {f"C{at}": type(f"C{at}", (), {"__module__": __name__}) for at in range(99)}
        globals().update(class_names)
        path = saved({"all": list(class_names.values())} | state(), tmp_path / "gl.pt")
        with pytest.raises(CheckpointError, match="objects of 99 classes beside tensors"):
            load_model(path)


def assert_is_no_advice(sentence: str) -> None:
    assert "\n" not in sentence
    for word in ("weights_only", "safe_globals", "Weights only", "\x1b"):
        assert word not in sentence


def torchscript(path: Path) -> bytes:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    return path.read_bytes()


def onnx_graph(path: Path) -> bytes:
    from onnx import helper, save

    node = helper.make_node("Relu", ["x"], ["y"])
    values = (helper.make_tensor_value_info(name, 1, [1]) for name in "xy")
    inputs, outputs = ([value] for value in values)
    save(helper.make_model(helper.make_graph([node], "g", inputs, outputs)), path)
    return path.read_bytes()


def other_zip(path: Path) -> bytes:
    np.savez(path, a=np.zeros(3))
    return path.with_suffix(".x.npz").read_bytes()


FOREIGN = {
    "a page": (b"\n<!DOCTYPE html>\n<html><title>Sign in</title>", "is a web page"),
    "an error of a storage": (b"<?xml version='1.0'?><Error/>", "is a web page"),
    "a Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "run git lfs pull",
    ),
    "gzip": (gzip.compress(b"weights"), "is compressed by gzip: decompress it first"),
    "JSON": (b'{"error": "not found"}', "neither a checkpoint nor an index of shards"),
    "an array": (b"\x93NUMPY\x01\x00", "is a NumPy array"),
    "empty": (b"", "is empty"),
    "TorchScript": (torchscript, "is a TorchScript program"),
    "ONNX": (onnx_graph, "is an ONNX graph"),
    "another ZIP archive": (other_zip, "is a ZIP archive without a PyTorch checkpoint"),
    "text": (b"hello", "is damaged, or not a checkpoint"),
}


@pytest.mark.parametrize("name", ["gl.pt", "gl.safetensors"])
@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_no_checkpoint_is_told_by_its_content(what, name, tmp_path):
    content, sentence = FOREIGN[what]
    content = content if isinstance(content, bytes) else content(tmp_path / "made.x")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence) as raised:
        load_model(tmp_path / name)
    assert_is_no_advice(str(raised.value))


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_file_that_was_cut_is_damaged(suffix, share, tmp_path):
    path = tmp_path / f"gl.{suffix}"
    save_file(state(), path) if suffix == "safetensors" else torch.save(state(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="is damaged") as raised:
        load_model(path)
    assert_is_no_advice(str(raised.value))


def test_a_name_does_not_say_what_a_file_is(tmp_path):
    save_file(state(), tmp_path / "gl.pt")
    with open(tmp_path / "gl.safetensors", "wb") as file:
        torch.save(state(), file)
    assert_loads(tmp_path / "gl.pt", state())
    assert_loads(tmp_path / "gl.safetensors", state())


@pytest.mark.parametrize(
    "start", [b" \n<", b"\x08\x01\x12"], ids=["as of a page", "as of an ONNX graph"]
)
def test_a_safetensors_header_may_have_a_length_that_looks_like_another_file(start, tmp_path):
    path = tmp_path / "gl.safetensors"
    save_file(state(), path, {"note": "x"})
    shorter = int.from_bytes(path.read_bytes()[:8], "little")
    wanted = int.from_bytes(start, "little")
    save_file(state(), path, {"note": "x" * (wanted - shorter)})
    assert path.read_bytes().startswith(start)
    assert_loads(path, state())


class TestTensorsOfOtherKinds:
    @pytest.mark.parametrize(
        "store", [lambda t: t.to_sparse(), lambda t: t.half(), lambda t: t.double()]
    )
    def test_that_lose_nothing_are_made_plain(self, store, tmp_path):
        halves = state()[KEY].half().float()
        path = saved(state() | {KEY: store(halves)}, tmp_path / "gl.pt")
        assert_loads(path, state() | {KEY: halves})

    @pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
    def test_eight_bits_become_float32_exactly(self, dtype, tmp_path):
        small = state()[KEY].to(dtype)
        assert_loads(
            saved(state() | {KEY: small}, tmp_path / "gl.pt"), state() | {KEY: small.float()}
        )
        save_file(state() | {KEY: small}, tmp_path / "gl.safetensors")
        assert_loads(tmp_path / "gl.safetensors", state() | {KEY: small.float()})

    @pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
    def test_quantised_ones_are_what_they_stand_for_and_noted(self, tmp_path):
        quantised = torch.quantize_per_tensor(state()[KEY], 0.01, 0, torch.qint8)
        path = saved(state() | {KEY: quantised}, tmp_path / "gl.pt")
        assert_loads(path, state() | {KEY: quantised.dequantize()})
        assert "1 quantised tensors became" in read_checkpoint(path).notes[0]

    @pytest.mark.parametrize(
        ("store", "sentence"),
        [
            (lambda t: torch.complex(t, t), "is complex, and no weight of these networks is"),
            (lambda t: t.to("meta"), "is on the meta device"),
            (lambda t: (t * 100).to(torch.int8), r"conv1\.weight \(torch\.int8, whose scale"),
            (lambda t: torch.sparse_coo_tensor(size=(1 << 20, 1 << 20)), "no weight is so large"),
        ],
        ids=["complex", "meta", "integers", "a huge sparse one"],
    )
    def test_that_are_no_weights_are_refused(self, store, sentence, tmp_path):
        path = saved(state() | {KEY: store(state()[KEY])}, tmp_path / "gl.pt")
        with pytest.raises(CheckpointError, match=sentence):
            load_model(path)


INDEX = "model.safetensors.index.json"


class TestShards:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        """Two shards and their index, as ``save_pretrained`` names them."""
        keys = sorted(state())
        names = [f"model-0000{at}-of-00002.safetensors" for at in (1, 2)]
        halves = (keys[: len(keys) // 2], keys[len(keys) // 2 :])
        weight_map = {}
        for name, half in zip(names, halves, strict=True):
            save_file({key: state()[key] for key in half}, tmp_path / name)
            weight_map |= dict.fromkeys(half, name)
        (tmp_path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        return tmp_path

    def change(self, folder: Path, edit) -> None:
        content = json.loads((folder / INDEX).read_text())
        edit(content["weight_map"])
        (folder / INDEX).write_text(json.dumps(content))

    def test_are_read_by_their_index_or_its_folder(self, folder):
        assert_loads(folder / INDEX, state())
        assert_loads(folder, state())

    def test_are_all_in_the_checkpoints_digest(self, folder):
        before = checkpoint_digest(folder)
        names = sorted(path.name for path in folder.iterdir())
        lines = (f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
        assert before == hashlib.sha256("".join(lines).encode()).hexdigest()
        assert checkpoint_digest(folder / INDEX) == before
        tensors = {key: state()[key] + 1 for key in [*sorted(state())][:5]}
        save_file(tensors, folder / "model-00001-of-00002.safetensors")
        assert checkpoint_digest(folder) != before

    def test_that_are_missing_are_named(self, folder):
        (folder / "model-00002-of-00002.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"lists the shard model-00002-of-00002"):
            load_model(folder)

    def test_that_lack_a_tensor_are_named(self, folder):
        self.change(folder, lambda m: m.update({"classifier.9.bias": next(iter(m.values()))}))
        with pytest.raises(CheckpointError, match=r"does not hold classifier\.9\.bias"):
            load_model(folder)

    @pytest.mark.parametrize(
        "name", ["../gl.safetensors", "/etc/passwd", "a/b", "..", "", "C:x", 3, None]
    )
    def test_outside_the_folder_are_refused(self, name, folder):
        self.change(folder, lambda m: m.update({KEY: name}))
        with pytest.raises(CheckpointError, match="is not a file beside it"):
            load_model(folder)

    @pytest.mark.slow
    def test_export_to_a_bundle_named_as_the_folder(self, folder):
        place = folder.parent
        done = call("glass-export", folder, ".", "-o", place / "sharded.glass")
        assert done.returncode == 0, done.stderr
        entry = Bundle.open(place / "sharded.glass").manifest.checkpoint
        assert (entry.file, entry.sha256) == (folder.name, checkpoint_digest(folder))


def test_a_folder_without_an_index(tmp_path):
    run = partial(call, "glass-export", tmp_path)
    assert "a folder, not a checkpoint, and holds no index of shards" in refusal(run("."))
