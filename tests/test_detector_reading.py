"""Checkpoints of detectors are told by their keys, or refused in one sentence."""

from __future__ import annotations

import argparse
import collections
import json
import pickle
import sys
import types
from functools import cache
from pathlib import Path

import detector_files as files
import pytest
import torch
from glass_edge.export.checkpoint_file import checkpoint_digest
from glass_edge.export.detectors.reading import choose_preset, open_source, recognise
from glass_edge.export.detectors.registry import Source, families
from glass_edge.export.errors import CheckpointError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

KEY = "cbr1.0.weight"


@cache
def state() -> files.State:
    return files.ferretnet()


def average() -> files.State:
    return {key: value * 2 for key, value in state().items()}


def read(path: Path, **options: object) -> Source:
    return open_source(path, options.get("backbone"), options.get("architecture"))


def assert_read(path: Path, expected: files.State, place: str = "") -> None:
    found = read(path)
    assert found.state.keys() == expected.keys()
    assert all(torch.equal(found.state[key], expected[key]) for key in expected)
    assert found.place == place


def refused(call, *arguments: object, **options: object) -> str:
    """Return the one sentence with which a call refuses."""
    with pytest.raises(CheckpointError) as raised:
        call(*arguments, **options)
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


# --- what wraps the weights -----------------------------------------------------------------

WRAPPED = {
    "": lambda s: s,
    "model": lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(9)}}}},
    "state_dict": lambda s: {"state_dict": files.prefixed("module.", s), "epoch": 3},
    "model_state_dict": lambda s: {"model_state_dict": files.prefixed("_orig_mod.", s)},
    "netC": lambda s: {"netC": files.prefixed("module._orig_mod.", s)},
    "net": lambda s: {"net": files.prefixed("_orig_mod.module.", s), "acc": 91.0},
    "module": lambda s: {"module": s},
    "ema": lambda s: {"ema": s, "step": torch.tensor(3)},
    "ema.module": lambda s: {"ema": {"module": s, "updates": 9}},
    "model_ema": lambda s: {
        "model_ema": {"n_averaged": torch.tensor(9)} | files.prefixed("module.", s)
    },
    "checkpoint.model": lambda s: {"checkpoint": {"model": s}},
}


@pytest.mark.parametrize("place", WRAPPED)
def test_the_weights_are_found_and_their_place_is_told(place, tmp_path):
    assert_read(files.saved(WRAPPED[place](state()), tmp_path / "d.pt"), state(), place)


@pytest.mark.parametrize("name", ["ema", "model_ema", "state_dict_ema", "ema_state_dict"])
def test_raw_weights_are_taken_before_an_average(name, tmp_path):
    path = files.saved({name: average(), "model": state()}, tmp_path / "d.pt")
    assert_read(path, state(), "model")


def test_raw_weights_are_taken_before_a_larger_average(tmp_path):
    larger = average() | {"more": torch.ones(2)}
    path = files.saved({"detector_ema": larger, "detector": state()}, tmp_path / "d.pt")
    assert_read(path, state(), "detector")


def test_usual_names_are_taken_before_others(tmp_path):
    larger = average() | {"more": torch.ones(2)}
    path = files.saved({"teacher": larger, "net": state()}, tmp_path / "d.pt")
    assert_read(path, state(), "net")


def test_pytorchs_own_average_is_read(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2))
    path = files.saved(AveragedModel(model).state_dict(), tmp_path / "d.pt")
    assert_read(path, model.state_dict())


class CfgNode(dict):
    """As yacs pickles its settings: a dictionary with attributes."""

    def __init__(self) -> None:
        super().__init__(SEED=0, MODEL=[1, {"NAME": "x"}])
        self.__dict__["__immutable__"] = True


@pytest.fixture
def yacs(monkeypatch) -> type:
    module = types.ModuleType("yacs.config")
    module.CfgNode = type("CfgNode", (CfgNode,), {"__module__": "yacs.config"})
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    return module.CfgNode


class TestObjectsBesideTheWeights:
    @pytest.mark.parametrize("new_format", [True, False])
    @pytest.mark.parametrize("flat", [True, False])
    def test_are_passed_over_and_never_made(self, flat, new_format, yacs, tmp_path, monkeypatch):
        args = argparse.Namespace(lr=1e-3, betas=(0.9, 0.99))
        beside = {"args": args, "config": yacs(), "order": collections.OrderedDict(a=1)}
        content = beside | (state() if flat else {"model": state()})
        torch.save(content, tmp_path / "d.pt", _use_new_zipfile_serialization=new_format)
        monkeypatch.delitem(sys.modules, "yacs.config")
        assert_read(tmp_path / "d.pt", state(), "" if flat else "model")

    def test_in_the_place_of_a_tensor_are_refused(self, tmp_path):
        path = files.saved(state() | {KEY: argparse.Namespace()}, tmp_path / "d.pt")
        assert f"{KEY} is an object of class argparse.Namespace" in refused(read, path)

    @pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"model": m}])
    def test_in_the_place_of_all_tensors_are_refused(self, wrap, tmp_path):
        path = files.saved(wrap(nn.Linear(2, 2)), tmp_path / "d.pt")
        assert "objects (torch.nn.modules.linear.Linear) and no state dict" in refused(read, path)

    @pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.ones(2)], {"a": torch.tensor(1)}])
    def test_nothing_is_no_checkpoint(self, content, tmp_path):
        path = files.saved(content, tmp_path / "d.pt")
        assert "holds no state dict" in refused(read, path)


def test_a_pickle_of_scikit_learn_is_never_loaded(tmp_path, monkeypatch):
    from sklearn.linear_model import LogisticRegression

    path = tmp_path / "linear_tot_classifier_epoch-32.sav"
    path.write_bytes(pickle.dumps(LogisticRegression().fit([[0.0], [1.0]], [0, 1])))
    monkeypatch.setattr(pickle, "loads", None)
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(LogisticRegression, "__setstate__", None)
    sentence = refused(read, path)
    assert "is a pickle of scikit-learn" in sentence
    assert "safetensors.numpy.save_file({'coef_': model.coef_" in sentence


# --- folders of Hugging Face ----------------------------------------------------------------


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        (tmp_path / "config.json").write_text(json.dumps({"layer_norm_eps": 1e-12}))
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 224}))
        save_file(state(), tmp_path / "model.safetensors")
        return tmp_path

    @pytest.mark.parametrize("name", ["", "model.safetensors"])
    def test_carry_their_settings(self, name, folder):
        assert_read(folder / name, state())
        found = read(folder / name)
        assert (found.config, found.preprocessor) == ({"layer_norm_eps": 1e-12}, {"size": 224})

    def test_may_hold_a_pickle(self, folder):
        (folder / "model.safetensors").unlink()
        (folder / "preprocessor_config.json").unlink()
        torch.save(state(), folder / "pytorch_model.bin")
        assert_read(folder, state())
        assert read(folder).preprocessor == {}

    def test_may_hold_shards(self, folder):
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        shards = dict.fromkeys(state(), "model-00001-of-00001.safetensors")
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": shards}))
        assert_read(folder, state())
        assert read(index).config == {"layer_norm_eps": 1e-12}

    def test_have_the_digest_of_their_weights(self, folder):
        assert checkpoint_digest(folder) == checkpoint_digest(folder / "model.safetensors")

    def test_are_backbones_too(self, folder, tmp_path):
        path = files.saved(files.code_head(), tmp_path / "head.pt")
        assert read(path, backbone=folder).backbone.keys() == state().keys()

    @pytest.mark.parametrize(
        "text", ["<html>", "[1]", "", '{"a": "%s"}' % ("x" * (5 << 20)), "[" * 99999]
    )
    def test_with_settings_that_are_none_are_refused(self, text, folder):
        (folder / "config.json").write_text(text)
        assert "config.json is not what Hugging Face's libraries write there" in refused(
            read, folder
        )

    def test_settings_beside_a_file_of_another_name_are_not_its_own(self, folder):
        (folder / "config.json").write_text("of something else")
        torch.save(state(), folder / "d.pt")
        assert read(folder / "d.pt").config == {}


# --- families -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", files.FILES)
def test_each_familys_file_is_of_that_family_and_no_other(family):
    found = recognise(files.source(files.FILES[family]()), None)
    assert found.name == family


def test_a_resnet_50_of_two_logits_is_not_cnnspot():
    two = files.cnnspot((3, 4, 6, 3)) | {"fc.weight": torch.ones(2, 2048), "fc.bias": torch.ones(2)}
    assert recognise(files.source(two), None).name == "classifier"


def test_a_whole_resnet_is_not_npr():
    whole = files.npr() | {"layer3.0.conv1.weight": torch.ones(256, 512, 1, 1)}
    assert "NPR has such keys" in refused(recognise, files.source(whole), None)


def test_a_network_that_is_named_is_what_its_name_says():
    given = files.source(files.cnnspot((3, 4, 6, 3)), architecture="torchvision/resnet50")
    assert recognise(given, None).name == "classifier"


def test_code_is_told_by_either_of_its_files():
    for part in (files.hf_vit(), files.code_head()):
        assert recognise(files.source(part), None).name == "code"


@pytest.mark.parametrize("width", [128, 384])
def test_a_vision_transformer_of_another_width_is_not_taken_for_code(width):
    assert "no family knows" in refused(recognise, files.source(files.hf_vit(width)), None)


def test_a_family_can_be_named():
    assert recognise(files.source({}), "npr") is families()["npr"]
    sentence = refused(recognise, files.source({}), "cnn-spot")
    assert "there is no family 'cnn-spot' (did you mean cnnspot?)" in sentence
    assert "community-forensics" in sentence


def test_of_unknown_keys_the_nearest_families_are_told():
    given = files.source({key: value for key, value in files.npr().items() if key != "fc1.weight"})
    sentence = refused(recognise, given, None)
    assert f"these keys (bn1.bias, … {len(given.state)} in all)" in sentence
    assert "NPR misses fc1.weight" in sentence
    assert "--family" in sentence
    assert "--backbone timm/NAME" in sentence
    assert sentence.count(" misses ") <= 3


def test_keys_of_a_family_with_other_shapes_are_told():
    given = files.source(files.npr() | {"fc1.weight": torch.ones(3, 512)})
    assert "NPR has such keys for tensors of other shapes" in refused(recognise, given, None)


def test_a_preset_is_chosen_by_its_name():
    given = files.source(files.npr())
    family = recognise(given, None)
    assert choose_preset(family, given, None).name == "stretch-256"
    assert choose_preset(family, given, "centre-224").name == "centre-224"
    sentence = refused(choose_preset, family, given, "center-224")
    assert "NPR has no preset 'center-224' (did you mean centre-224?)" in sentence
    assert "stretch-256, centre-224" in sentence


def with_infinity(given: files.State) -> files.State:
    key = next(key for key in given if key.endswith("weight"))
    return given | {key: torch.full_like(given[key], torch.inf)}


def cut(given: files.State) -> files.State:
    key = sorted(key for key in given if key.endswith(".bias"))[0]
    return {name: value for name, value in given.items() if name != key}


class TestCheckpointsThatDoNotFit:
    @pytest.mark.parametrize("family", ["npr", "ferretnet", "community-forensics", "code"])
    def test_because_their_values_are_not_finite(self, family):
        given = files.source(with_infinity(files.FILES[family]()))
        assert "not finite" in refused(self.load, given, family)

    @pytest.mark.parametrize("family", ["npr", "ferretnet", "community-forensics", "code"])
    def test_because_a_tensor_is_missing(self, family):
        assert "1 missing" in refused(self.load, files.source(cut(files.FILES[family]())), family)

    @pytest.mark.parametrize("family", files.FILES)
    @pytest.mark.parametrize(
        "other", [{"a.weight": torch.ones(2)}, {"fc.weight": torch.tensor(1.0)}, {}], ids=str
    )
    def test_because_they_are_of_another_family(self, family, other: dict[str, Tensor]):
        refused(self.load, files.source(other), family)

    @pytest.mark.parametrize("family", ["npr", "ferretnet", "community-forensics", "code"])
    def test_because_all_tensors_are_numbers(self, family):
        numbers = {key: torch.tensor(1.0) for key in files.FILES[family]()}
        refused(self.load, files.source(numbers), family)
        if family != "ferretnet":  # which has no closer look
            refused(recognise, files.source(numbers), None)

    def test_because_a_head_is_alone(self):
        sentence = refused(self.load, files.source(files.code_head()), "code")
        assert "head without its Vision Transformer" in sentence
        assert "--backbone-weights" in sentence

    def test_because_a_tower_is_alone(self):
        sentence = refused(self.load, files.source(files.hf_vit()), "code")
        assert "linear head is missing" in sentence
        assert "docs/detectors.md" in sentence

    def test_because_head_and_tower_are_of_different_widths(self):
        given = files.source(files.code_head(), backbone=files.hf_vit(128))
        assert "coef_ is (1, 192)" in refused(self.load, given, "code")

    def test_because_the_views_have_a_size_that_nobody_evaluated(self):
        state = files.community_forensics() | {"vit.pos_embed": torch.ones(1, 17, 64)}
        given = files.source(state)
        assert "views of 64x64" in refused(
            choose_preset, families()["community-forensics"], given, None
        )

    def test_because_a_classifier_has_three_logits(self):
        head = {"fc.weight": torch.ones(3, 512), "fc.bias": torch.ones(3)}
        given = files.source(files.cnnspot() | head, architecture="torchvision/resnet18")
        assert "3 logits" in refused(self.load, given, "classifier")

    @pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("timm/resnet_18", "timm has no model 'resnet_18'"),
            ("torchvision/resnet_18", "did you mean torchvision/resnet18?"),
            ("keras/resnet18", "give timm/NAME or torchvision/NAME"),
            ("torchvision/googlenet", "several heads"),
            ("timm/levit_128s", "several heads"),
        ],
    )
    def test_because_there_is_no_such_network(self, name, sentence):
        given = files.source({"fc.weight": torch.ones(1, 2)}, architecture=name)
        assert sentence in refused(self.load, given, "classifier")

    def load(self, given: Source, family: str) -> None:
        found = families()[family]
        found.load(given, choose_preset(found, given, None))
