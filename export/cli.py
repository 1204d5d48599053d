"""``glass-export``: make a bundle of a trained GLASS."""

from __future__ import annotations

from pathlib import Path

import click

from ..runtime.bundle import BUNDLE_SUFFIX, Bundle
from ..runtime.console import GlassCommand, common_options, step
from ..runtime.errors import InputError
from ..runtime.manifest import Parity

_EXAMPLES = """
\b
Examples:
  glass-export gl_vit.pt -o gl_vit.glass
  glass-export                                   the only gl_*.pt here
  glass-export mine.safetensors --backbone timm/tf_efficientnet_lite0 --crops 4
"""


@click.command(
    cls=GlassCommand,
    epilog=_EXAMPLES,
    help="Export a trained PyTorch GLASS to a bundle that glass-run judges with. CHECKPOINT is a "
    "state dict saved by torch.save, or a .safetensors file. The export ends by comparing the "
    "graphs with PyTorch on real photographs and fails if they do not agree.",
)
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help=f"The bundle to make. Default: the checkpoint's name with {BUNDLE_SUFFIX}, here.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32"]),
    default="fp32",
    show_default=True,
    help="The type that the graphs compute in.",
)
@click.option(
    "--backbone",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="timm/NAME, for a checkpoint with a timm backbone.",
)
@click.option(
    "--crops", type=int, help="Crops per image. Default: the paper's number for the family."
)
@click.option(
    "--classes",
    default="fake,real",
    show_default=True,
    metavar="A,B",
    help="Class names in the order of the logits.",
)
@click.option(
    "--fake-class", default="fake", show_default=True, help="Which class means AI-generated."
)
@click.option("--force", is_flag=True, help="Replace the bundle if it exists.")
@common_options
def main(
    checkpoint: Path | None,
    output: Path | None,
    precision: str,
    backbone: str,
    crops: int | None,
    classes: str,
    fake_class: str,
    force: bool,
) -> None:
    """Export a checkpoint; see ``glass-export --help``."""
    # Imported here, so that --help and wrong usage do not wait for torch.
    with step("loading PyTorch"):
        try:
            from .checkpoint import find_checkpoint
            from .exporter import ExportOptions, check_target, export_bundle
        except ModuleNotFoundError as error:
            raise InputError(
                f"exporting needs {error.name}, which is not installed: "
                "pip install 'glass-edge[export]'."
            ) from None

    names = tuple(name.strip() for name in classes.split(","))
    if len(names) != 2:
        raise InputError(f"--classes takes two names separated by a comma, not {classes!r}.")
    options = ExportOptions(
        backbone=backbone,
        precision="fp32",
        crops=crops,
        classes=(names[0], names[1]),
        fake_class=fake_class,
        force=force,
    )
    source = checkpoint or find_checkpoint(Path.cwd())
    target = output or Path(source.with_suffix(BUNDLE_SUFFIX).name)
    check_target(target, force=force)
    with step(f"exporting {source} and comparing it with PyTorch"):
        bundle = export_bundle(source, target, options)
    _summarise(source, bundle)


def _summarise(source: Path, bundle: Bundle) -> None:
    manifest, parity = bundle.manifest, bundle.manifest.parity
    agreement = "" if parity is None else _agreement(parity)  # an opened bundle has one
    sizes = {path.name: path.stat().st_size for path in sorted(bundle.path.iterdir())}
    files = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
    backbone = manifest.backbone
    weights = "shared by both views" if backbone.shared else "one for each view"
    total = sum(sizes.values()) / 1e6
    views = manifest.views
    lines = {
        "checkpoint": f"{source} (SHA-256 {manifest.checkpoint.sha256[:12]}…)",
        "backbone": f"{backbone.name}, {weights}, {backbone.feature_size} features",
        "views": f"1 global and {views.num_crops} crops of {views.crop_size}x{views.crop_size}",
        "classes": f"{', '.join(manifest.classes)} ({manifest.fake_class} means AI-generated)",
        "parity": agreement,
        "bundle": f"{bundle.path} ({manifest.precision}, {total:.1f} MB: {files})",
    }
    for name, text in lines.items():
        click.echo(f"{name:<10}  {text}")


def _agreement(parity: Parity) -> str:
    return (
        f"largest difference to PyTorch in any logit {parity.logit_error:.1e} "
        f"(allowed {parity.tolerance:.0e}); {parity.images} photographs, "
        f"batches {', '.join(map(str, parity.batch_sizes))}"
    )
