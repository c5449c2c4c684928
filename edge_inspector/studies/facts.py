"""What a figure was measured on: commit, processor, versions."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from edge_inspector import clock
from edge_inspector.choice import processor

PACKAGES = (
    "edge-inspector",
    "numpy",
    "opencv-python-headless",
    "openvino",
    "onnxruntime",
    "pyzmq",
    "apsw",
)


def facts() -> dict[str, object]:
    """Commit, date, processor model and count, Python and package versions."""
    return {
        "commit": _commit(),
        "date": clock.utc_text(clock.utc_ns())[:10],
        "cpu": processor(),
        "python": platform.python_version(),
        "versions": _versions(),
    }


def _commit() -> str:
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
