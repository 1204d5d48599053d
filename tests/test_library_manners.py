"""Used as a library, glass-edge leaves the host program's settings alone and draws nothing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

SETTINGS = """
import json, signal, sys, warnings
from PIL import AvifImagePlugin, Image

def settings():
    return [
        AvifImagePlugin.DEFAULT_MAX_THREADS,
        Image.MAX_IMAGE_PIXELS,
        [str(each) for each in warnings.filters if "PIL" in str(each)],
        [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
    ]

before = settings()
from glass_edge import Detector, DetectorOptions
Detector(sys.argv[1], DetectorOptions(crops=2)).detect(sys.argv[2])
print(json.dumps([before, settings()]))
"""


def test_a_detector_changes_no_setting_of_the_host_program(vit_bundle, photographs):
    command = [sys.executable, "-c", SETTINGS, vit_bundle.path, photographs[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert after == before


QUIET = """
import sys
from pathlib import Path
from glass_edge.export.exporter import ExportOptions, export_bundle
export_bundle(Path(sys.argv[1]), Path(sys.argv[2]), ExportOptions())
"""


@pytest.mark.slow
def test_an_export_from_a_program_draws_nothing_even_on_a_terminal(checkpoints, tmp_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-W", "error::UserWarning:glass_edge", "-c", QUIET]
    with subprocess.Popen(
        [*command, checkpoints["vit"], tmp_path / "quiet.glass"], stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # how Linux says that the other side was closed
            pass
    os.close(ours)
    assert process.returncode == 0
    assert shown == b""
