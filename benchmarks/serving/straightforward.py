"""The server that most would write around a bundle's graphs: FastAPI, Pillow, ONNX Runtime.

Each request is judged by itself, in the thread pool that ``def`` endpoints have, with default
sessions and uvicorn's defaults. It has no limits, no queue and no shutdown of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from fastapi import FastAPI, UploadFile
from PIL import Image

from ...runtime.bundle.bundle import Bundle
from ...runtime.views.batch import plan
from ..contenders.naive import PlainGraphs
from ..views.libraries import opencv_crops

SEED = 0
"""Of each image's crops."""


def make_app(bundle: Bundle) -> FastAPI:
    """Load the graphs of a GLASS and return the server.

    Raises:
        EngineError: ONNX Runtime is not installed.
    """
    graphs, views = PlainGraphs(bundle), bundle.manifest.views
    app = FastAPI()

    @app.post("/judge")
    def judge(file: UploadFile) -> dict[str, Any]:
        image = Image.open(file.file).convert("RGB")
        side = views.crop_size
        overview = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), np.float32)
        rgb = np.asarray(image)
        crops = opencv_crops(rgb, plan(image.height, image.width, SEED, views), side)
        score = graphs.score(overview[np.newaxis], crops)
        return {"file": file.filename, "score": score}

    return app


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--port", type=int, required=True)
def main(bundle: Path, port: int) -> None:
    """Serve BUNDLE."""
    import uvicorn

    uvicorn.run(make_app(Bundle.open(bundle)), port=port)
