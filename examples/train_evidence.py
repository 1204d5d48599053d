"""Train two further GLASS networks, on which accuracy after quantisation can be measured.

- ``gl_efficientnet.safetensors``: one ``tf_efficientnet_lite0`` for both views, with its
  ImageNet weights frozen; only the aggregator is trained, on features computed once.
- ``gl_vit.safetensors``: two small torchvision Vision Transformers, trained from scratch.

Photographs, twins and the split are made as in train_demo.py, with sides bounded. Beside
networks and reports, the output folder receives labelled pictures to evaluate (``test/``)
and to calibrate on (``train/``), and the autoencoder and views that a later run takes up.

    python examples/train_evidence.py photographs evidence
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import timm
import torch
import train_demo as demo
from glass_edge.export.model import Glass
from machine_made import Autoencoder, machine_made, train_autoencoder
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torchvision.models import VisionTransformer

CALIBRATION_QUALITY = 92
LARGEST_CUT = 1024  # one tile of the autoencoder; twins of whole pictures take long
AUTOENCODER_STEPS = 700
WINDOWS, FEATURE_WINDOWS = 1200, 500  # training windows: all, and those whose features are taken
EFFICIENTNET_FEATURES = 1280
RATE = 1e-3
VIT_STEPS = 450
VIT_PATCH, VIT_LAYERS, VIT_HEADS, VIT_HIDDEN, VIT_MLP = 16, 6, 3, 192, 768


def trained_autoencoder(path: Path, photographs: list[demo.Photograph]) -> Autoencoder:
    """Load the autoencoder, or train it on the training photographs and keep it."""
    model = Autoencoder()
    if path.exists():
        model.load_state_dict(load_file(path))
        return model.eval()
    pictures = [rgb for _, rgb in demo.training_pictures(photographs)]
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        model = train_autoencoder(pictures, steps=AUTOENCODER_STEPS, seed=0)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return model


def middle(picture: np.ndarray) -> np.ndarray:
    """Cut the middle out of a large picture, at its own resolution."""
    top, left = (max(0, side - LARGEST_CUT) // 2 for side in picture.shape[:2])
    return picture[top : top + LARGEST_CUT, left : left + LARGEST_CUT]


def make_pairs(model: Autoencoder, pictures: list[tuple[str, np.ndarray]]) -> list[demo.Pair]:
    """Pair every picture with its twin; names are numbered, since file names repeat."""
    return [
        demo.Pair(f"{number:02d}-{name}", rgb, machine_made(model, rgb))
        for number, (name, rgb) in enumerate(pictures)
    ]


def write_pictures(folder: Path, pairs: list[demo.Pair], qualities: tuple[int | None, ...]) -> int:
    """Save ``real/`` and ``fake/`` in each encoding (None: PNG); return the number of files."""
    for pair in pairs:
        for label, picture in (("real", pair.real), ("fake", pair.fake)):
            (folder / label).mkdir(parents=True, exist_ok=True)
            for quality in qualities:
                suffix = ".png" if quality is None else f".q{quality}.jpg"
                path = folder / label / f"{pair.name}{suffix}"
                Image.fromarray(picture).save(path, quality=quality or 100)  # PNG ignores it
    return 2 * len(pairs) * len(qualities)


def training_views(pairs: list[demo.Pair], count: int) -> np.ndarray:
    """Cut views of ``count`` windows and of their twins, once.

    Returns:
        uint8 ``(2 * count, 1 + crops, 3, 224, 224)``, the overview first. Even rows are of
        fakes and odd rows of the photographs, as ``demo.training_batch`` orders them.
    """
    draw = np.random.default_rng(1)
    stored = np.empty((2 * count, 1 + demo.CROPS, 3, demo.CROP, demo.CROP), np.uint8)
    for row in range(0, 2 * count, 2):
        overviews, crops, _ = demo.training_batch(pairs, 1, draw)
        pixels = torch.cat([overviews[:, None], crops], dim=1) * demo.STD + demo.MEAN
        stored[row : row + 2] = pixels.mul(255).round().clamp(0, 255).to(torch.uint8).numpy()
    return stored


def normalised(stored: np.ndarray) -> Tensor:
    return (torch.from_numpy(stored).to(torch.float32).div(255) - demo.MEAN) / demo.STD


class Learner:
    """AdamW with a short warm-up and a cosine schedule, on the smoothed cross-entropy."""

    def __init__(self, model: nn.Module, steps: int) -> None:
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=RATE, weight_decay=5e-2)
        self.schedule = OneCycleLR(self.optimizer, RATE, steps, pct_start=0.1)

    def step(self, logits: Tensor, rows: np.ndarray) -> float:
        labels = torch.from_numpy(rows % 2)  # even rows are FAKE, 0, and odd ones REAL, 1
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.1)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()
        return loss.item()


@torch.inference_mode()
def features_of(backbone: nn.Module, stored: np.ndarray) -> Tensor:
    """Return the features ``(rows, 1 + crops, D)`` of stored views."""
    return torch.stack([backbone(normalised(np.array(row))) for row in stored])


def train_on_features(stored: np.ndarray, epochs: int = 60, batch: int = 64) -> Glass:
    """The shared EfficientNet, frozen, with an aggregator trained on its features."""
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    backbone = demo.imagenet_backbone().eval().requires_grad_(False)
    backbone = backbone.to(memory_format=torch.channels_last)
    model = Glass(backbone, backbone, EFFICIENTNET_FEATURES).eval()
    features = features_of(backbone, stored).clone()
    aggregator = model.aggregator().train()
    learner = Learner(aggregator, epochs * (len(stored) // batch))
    for epoch in range(epochs):
        rows = draw.permutation(len(stored))
        losses = []
        for start in range(0, len(stored) - batch + 1, batch):
            chosen = rows[start : start + batch]
            seen = features[torch.from_numpy(chosen)]
            logits, _ = aggregator(seen[:, 0], seen[:, 1:])
            losses.append(learner.step(logits, chosen))
        if (epoch + 1) % 10 == 0:
            print(f"efficientnet epoch {epoch + 1}  loss {np.mean(losses):.3f}", flush=True)
    return model.eval()


def small_vit(views: np.ndarray) -> nn.Module:
    """A new Vision Transformer whose patch embedding whitens the patches of ``views``.

    A decoder's traces lie in fine detail, which has little power in photographs; from the
    usual random start it would take many more steps to be seen.
    """
    sizes = VIT_PATCH, VIT_LAYERS, VIT_HEADS, VIT_HIDDEN, VIT_MLP
    model = VisionTransformer(demo.CROP, *sizes)
    model.heads = nn.Identity()
    patches = F.unfold(normalised(views), VIT_PATCH, stride=VIT_PATCH).transpose(1, 2).flatten(0, 1)
    power, directions = torch.linalg.eigh(torch.cov(patches.T))
    mixing, _ = torch.linalg.qr(torch.randn(len(power), VIT_HIDDEN))
    whitening = mixing.T * power.clamp_min(1e-3).rsqrt() @ directions.T
    model.conv_proj.weight.data = whitening.view_as(model.conv_proj.weight)
    return model


def train_vit(stored: np.ndarray, steps: int, batch_pairs: int = 4) -> Glass:
    """Two small Vision Transformers and the aggregator, end to end from scratch."""
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    some = np.array(stored[:: len(stored) // 200])
    model = Glass(small_vit(some[:, 0]), small_vit(some[:, 1]), VIT_HIDDEN).train()
    aggregator, learner, losses = model.aggregator(), Learner(model, steps), []
    for step in range(steps):
        pairs = draw.choice(len(stored) // 2, batch_pairs, replace=False)
        rows = np.stack([2 * pairs, 2 * pairs + 1], axis=1).ravel()
        views = normalised(stored[rows]).flip([dim for dim in (-1, -2) if draw.integers(2)])
        with torch.autocast("cpu", torch.bfloat16):
            whole = model.global_model(views[:, 0]).float()
            crops = model.local_model(views[:, 1:].flatten(0, 1)).float()
        together, _ = aggregator(whole, crops.unflatten(0, (len(rows), -1)))
        alone, _ = aggregator(whole.repeat_interleave(demo.CROPS, 0), crops[:, None])
        answers = torch.cat([together, alone])  # each crop must also do without the others
        losses.append(learner.step(answers, np.append(rows, rows.repeat(demo.CROPS))))
        if (step + 1) % 25 == 0:
            print(f"vit step {step + 1}/{steps}  loss {np.mean(losses[-25:]):.3f}", flush=True)
    return model.eval()


def state_to_save(model: Glass) -> dict[str, Tensor]:
    """The state dict as published; a shared backbone is written once, as ``backbone.*``."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.shares_backbone:
        kept = {name: state[name] for name in state if not name.startswith("local_model.")}
        state = {name.replace("global_model.", "backbone."): kept[name] for name in kept}
    return state


def make_data(photographs: list[demo.Photograph], output: Path) -> list[demo.Pair]:
    """Write pictures and training views as far as they are missing; return the test pairs."""
    autoencoder = trained_autoencoder(output / "autoencoder.safetensors", photographs)
    held_out = [photograph.path for photograph in photographs if photograph.split == "test"]
    bounded = [demo.shrink(demo.read_rgb(path), demo.LARGEST_TRAINING_SIDE) for path in held_out]
    test = make_pairs(autoencoder, [(p.stem, b) for p, b in zip(held_out, bounded, strict=True)])
    if not (output / "views.npy").exists():
        pictures = [(name, middle(rgb)) for name, rgb in demo.training_pictures(photographs)]
        training = make_pairs(autoencoder, pictures)
        of_test = write_pictures(output / "test", test, demo.TEST_ENCODINGS)
        of_training = write_pictures(output / "train", training, (CALIBRATION_QUALITY,))
        print(f"{of_test} test pictures, {of_training} training pictures", flush=True)
        np.save(output / "views.npy", training_views(training, WINDOWS))
    return test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photographs", type=Path, help="folder with the unpacked packages")
    parser.add_argument("output", type=Path, help="folder for networks, reports and pictures")
    parser.add_argument("--networks", nargs="+", default=["efficientnet", "vit"])
    arguments = parser.parse_args()

    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    test = make_data(demo.list_photographs(arguments.photographs), output)
    views = np.load(output / "views.npy", mmap_mode="r")
    for network in arguments.networks:
        started = time.monotonic()
        if network == "vit":
            model = train_vit(views, VIT_STEPS)
        else:
            model = train_on_features(views[: 2 * FEATURE_WINDOWS])
        minutes = round((time.monotonic() - started) / 60, 1)
        path = output / f"gl_{network}.safetensors"
        save_file(state_to_save(model), path)
        report = {
            "command": "python examples/train_evidence.py photographs evidence",
            "torch": torch.__version__,
            "timm": timm.__version__,
            "training_minutes": minutes,
            **demo.evaluate(model, test),
        }
        del report["details"]
        path.with_suffix(".report.json").write_text(json.dumps(report, indent=1) + "\n")
        print(network, report, flush=True)


if __name__ == "__main__":
    main()
