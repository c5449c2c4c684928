"""Alignment on rendered frames of 5 megapixels: error, time, and finds where there is no part."""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.align_scenes import SAME_OUTLINE, Scene, aligners, product, render, strangers, sway
from edge_inspector.align import Aligner
from edge_inspector.errors import Uninspectable
from edge_inspector.pixels import pose_matrix
from edge_inspector.records import Pixels, Pose


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--strangers", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    scene, rng = Scene(), np.random.default_rng(arguments.seed)
    part = product(scene)
    with tempfile.TemporaryDirectory() as folder:
        methods = aligners(scene, part, Path(folder), rng)
    errors: dict[str, list[tuple[float, ...]]] = {name: [] for name in methods}
    lost: Counter[str] = Counter()
    for number in range(arguments.frames):
        pose = sway(scene, rng, shift_px=35, angle_deg=1.5 if number % 2 else 0.2)
        frame = render(scene, part, pose, rng)
        for name, aligner in methods.items():
            found, wall_ms, cpu_ms = timed(aligner, frame)
            if found is None:
                lost[name] += 1
            else:
                errors[name].append((*compare(scene, name, pose, found), wall_ms, cpu_ms))
    wrong, wrong_kinds, longest = count_wrong(methods, scene, part, rng, arguments.strangers)
    report = {
        "bench": "align",
        "shape": scene.shape,
        "frames": arguments.frames,
        "strangers": arguments.strangers,
        "wrong_kinds": wrong_kinds,
        "methods": {
            name: {
                **summary(np.array(errors[name])),
                "lost": lost[name],
                "wrong": wrong[name],
                "stranger_max_cpu_ms": round(longest[name], 2),
            }
            for name in methods
        },
        "cpu": platform.processor() or platform.machine(),
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }
    print(json.dumps(report))


def timed(aligner: Aligner, frame: Pixels) -> tuple[Pose | None, float, float]:
    """The pose or None, and milliseconds by the wall and of this thread."""
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    try:
        found = aligner.find(frame)
    except Uninspectable:
        found = None
    return found, (time.perf_counter_ns() - wall) / 1e6, (time.thread_time_ns() - cpu) / 1e6


def compare(scene: Scene, name: str, pose: Pose, found: Pose) -> tuple[float, float, float]:
    """Distance at the part's middle, the largest at its corners, and the angle between."""
    origin = scene.origin if name == "outline" else np.zeros(2)
    points = np.vstack([scene.middle, scene.corners])
    true, seen = pose_matrix(pose), pose_matrix(found)
    there = points @ true[:, :2].T + true[:, 2]
    here = (points - origin) @ seen[:, :2].T + seen[:, 2]
    misses = np.hypot(*(there - here).T)
    return float(misses[0]), float(misses[1:].max()), abs(pose.angle_deg - found.angle_deg)


def count_wrong(
    methods: dict[str, Aligner], scene: Scene, part: Any, rng: np.random.Generator, count: int
) -> tuple[Counter[str], dict[str, int], dict[str, float]]:
    """Finds per method and per kind, and the longest search, in `count` frames without the part."""
    wrong: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    longest = dict.fromkeys(methods, 0.0)
    for kind, frame in strangers(scene, part, rng):
        for name, aligner in methods.items():
            if shown[name] == count or (name == "outline" and kind in SAME_OUTLINE):
                continue
            found, _, cpu_ms = timed(aligner, frame)
            shown[name] += 1
            longest[name] = max(longest[name], cpu_ms)
            wrong[name] += found is not None
            kinds[f"{name}: {kind}"] += found is not None
        if all(shown[name] == count for name in methods):
            break
    return wrong, {kind: finds for kind, finds in kinds.items() if finds}, longest


def summary(rows: Any) -> dict[str, float]:
    """Percentiles of errors and times."""
    if not len(rows):
        return {}
    middle, corner, angle = (float(value) for value in np.percentile(rows[:, :3], 95, axis=0))
    return {
        "middle_p95_px": round(middle, 4),
        "middle_max_px": round(float(rows[:, 0].max()), 4),
        "corner_p95_px": round(corner, 4),
        "angle_p95_deg": round(angle, 5),
        "wall_p50_ms": round(float(np.percentile(rows[:, 3], 50)), 2),
        "wall_p99_ms": round(float(np.percentile(rows[:, 3], 99)), 2),
        "cpu_p50_ms": round(float(np.percentile(rows[:, 4], 50)), 2),
        "cpu_p99_ms": round(float(np.percentile(rows[:, 4], 99)), 2),
    }


if __name__ == "__main__":
    main()
