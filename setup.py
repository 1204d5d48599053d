"""Lists the packages: the folders at the top of the repository are sub-packages of glass_edge."""

from setuptools import find_namespace_packages, setup

FOLDERS = ("runtime", "export", "calibration", "benchmarks")
PATTERNS = [pattern for folder in FOLDERS for pattern in (folder, f"{folder}.*")]
FOUND = find_namespace_packages(include=PATTERNS, exclude=["*.__pycache__"])

setup(
    packages=["glass_edge", *(f"glass_edge.{name}" for name in FOUND)],
    package_dir={f"glass_edge.{folder}": folder for folder in FOLDERS},
)
