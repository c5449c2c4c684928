"""Frames with a known pose, and frames without the part, for the alignment's bench and tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.align import Aligner, open_alignment
from edge_inspector.pixels import pose_matrix
from edge_inspector.recipe_alignment import Fiducials, Outline, Template
from edge_inspector.records import Pixels, Pose

FINE = 3
"""The part is drawn this many times as large as a frame shows it."""
PAD = 24 * FINE
Generator = np.random.Generator
Points = NDArray[np.float64]
Layers = tuple[Pixels, Pixels]


@dataclass(frozen=True)
class Scene:
    """A part of `part_px`, seen in frames of `shape`; the reference has it in the middle."""

    shape: tuple[int, int] = (2048, 2448)
    part_px: int = 1200
    balls: int = 8
    mark_px: int = 44
    mark_inset: float = 0.07
    text: str = "BGA 64"
    outline: str = "square"

    @property
    def origin(self) -> Points:
        """Top left px of the part in the reference frame."""
        return (np.array(self.shape[::-1]) - self.part_px) / 2

    @property
    def middle(self) -> Points:
        """Middle of the reference frame."""
        return (np.array(self.shape[::-1]) - 1) / 2

    @property
    def corners(self) -> Points:
        """Corners of the part in the reference frame."""
        half = self.part_px / 2
        signs = np.array([(-1, -1), (1, -1), (-1, 1), (1, 1)])
        return np.asarray(self.middle + half * signs)

    @property
    def marks(self) -> Points:
        """Middles of three round marks in the reference frame."""
        low, high = self.part_px * self.mark_inset, self.part_px * (1 - self.mark_inset)
        return np.asarray(self.origin + np.array([(low, low), (high, low), (low, high)]) - 0.5)


def product(scene: Scene) -> Layers:
    """The part and its coverage, `FINE` times as large as a frame shows it."""
    side = scene.part_px * FINE
    part = np.full((side + 2 * PAD, side + 2 * PAD), 45, np.uint8)
    pitch = 0.74 * side / scene.balls
    for row, column in np.ndindex(scene.balls, scene.balls):
        middle = PAD + 0.13 * side + pitch * (np.array([column, row]) + 0.5)
        _disc(part, middle, 0.3 * pitch, 200)
        _disc(part, middle - 0.08 * pitch, 0.09 * pitch, 250)
    for mark in scene.marks:
        _disc(part, PAD + (mark - scene.origin + 0.5) * FINE, 0.36 * scene.mark_px * FINE, 215)
    corner = (PAD + int(0.55 * side), PAD + int(0.1 * side))
    thick = max(side // 220, 1)
    cv2.putText(part, scene.text, corner, cv2.FONT_HERSHEY_SIMPLEX, side / 900, 150, thick)
    layers = (part, _cover(part.shape[0], side, scene.outline))
    body, cover = (cv2.GaussianBlur(layer, (0, 0), 0.6 * FINE).astype(np.uint8) for layer in layers)
    return body, cover


def _cover(whole: int, side: int, outline: str) -> Pixels:
    cover = np.zeros((whole, whole), np.uint8)
    if outline == "round":
        _disc(cover, np.full(2, PAD + side / 2), side / 2, 255)
    elif outline == "triangle":
        corners = np.array([(PAD, PAD), (PAD + side, PAD), (PAD, PAD + side)], np.int32)
        cv2.fillPoly(cover, [corners], 255)
    else:
        height = side if outline == "square" else int(0.7 * side)
        cover[PAD : PAD + height, PAD : PAD + side] = 255
    return cover


def _disc(picture: Pixels, middle: Points, radius: float, level: int) -> None:
    """A round spot; 0 is the left edge of the first px."""
    x, y = (round((value - 0.5) * 256) for value in middle)
    cv2.circle(picture, (x, y), round(radius * 256), level, -1, cv2.LINE_AA, 8)


def render(scene: Scene, part: Layers, pose: Pose, rng: Generator) -> Pixels:
    """A frame of the part at `pose` (reference px to frame px) on its tray."""
    shift = scene.origin - 0.5 + (0.5 - PAD) / FINE
    fine = np.array([[1 / FINE, 0, shift[0]], [0, 1 / FINE, shift[1]], [0, 0, 1]])
    matrix, size = pose_matrix(pose) @ fine, scene.shape[::-1]
    body, cover = (cv2.warpAffine(layer, matrix, size).astype(np.uint8) for layer in part)
    seen = cv2.multiply(body, cover, scale=1 / 255)
    around = cv2.multiply(tray(scene, rng), cv2.bitwise_not(cover), scale=1 / 255)
    return noisy(cv2.add(seen, around).astype(np.uint8), rng)


def tray(scene: Scene, rng: Generator) -> Pixels:
    """A grey tray with soft spots, lit from one side."""
    light = np.linspace(130, 155, scene.shape[1] // 16)[None, :]
    return texture(scene, rng, 64, 4.0, light)


def texture(
    scene: Scene, rng: Generator, size_px: int, deviation: float, level: float | Points = 128.0
) -> Pixels:
    """Soft spots of about `size_px`."""
    height, width = scene.shape
    coarse = rng.normal(0, deviation, (max(height // size_px, 2), max(width // size_px, 2)))
    small = cv2.resize(coarse, (width // 16, height // 16), interpolation=cv2.INTER_CUBIC)
    spots = np.clip(np.asarray(small) + level, 0, 255) if size_px > 16 else coarse + 128
    return cv2.resize(np.clip(spots, 0, 255).astype(np.uint8), (width, height)).astype(np.uint8)


def noisy(frame: Pixels, rng: Generator, deviation: float = 3.0) -> Pixels:
    """Camera noise; one drawn block is repeated, because 5 million draws take a while."""
    height, width = frame.shape
    block = rng.normal(0, deviation, (512, 640)).astype(np.int8)
    noise = np.tile(block, (height // 512 + 1, width // 640 + 1))[:height, :width]
    return np.clip(cv2.add(frame, noise, dtype=cv2.CV_16S), 0, 255).astype(np.uint8)


def sway(scene: Scene, rng: Generator, shift_px: float, angle_deg: float) -> Pose:
    """A pose that moves and turns the part about its middle, by up to so much."""
    return turned(scene, rng.uniform(-shift_px, shift_px, 2), rng.uniform(-angle_deg, angle_deg))


def turned(scene: Scene, shift: Points, angle_deg: float) -> Pose:
    """The pose that turns the part about its middle and moves it by `shift`."""
    rotation = pose_matrix(Pose(angle_deg=angle_deg))[:, :2]
    dx, dy = scene.middle + shift - rotation @ scene.middle
    return Pose(float(dx), float(dy), float(angle_deg))


def aligners(scene: Scene, part: Layers, folder: Path, rng: Generator) -> dict[str, Aligner]:
    """One of each method, with patches cut from a reference frame of its own noise and tray."""
    reference = render(scene, part, Pose(), rng)
    side = scene.part_px // 4
    corner = np.round(scene.origin + scene.part_px * np.array([0.5, 0.03])).astype(int)
    _save(folder / "template.png", reference, corner, side)
    first = np.round(scene.marks[0] - (scene.mark_px - 1) / 2).astype(int)
    _save(folder / "mark.png", reference, first, scene.mark_px)
    moved = first + (scene.mark_px - 1) / 2 - scene.marks[0]
    marks = tuple((float(x), float(y)) for x, y in scene.marks + moved)
    size = (scene.part_px, scene.part_px)
    position = (float(corner[0]), float(corner[1]))
    specs: dict[str, Outline | Template | Fiducials] = {
        "outline": Outline(method="outline", size=size),
        "template": Template(method="template", image=folder / "template.png", position=position),
        "fiducials": Fiducials(
            method="fiducials", image=folder / "mark.png", positions=marks, search_px=48
        ),
    }
    return {name: open_alignment(spec) for name, spec in specs.items()}


def _save(path: Path, frame: Pixels, corner: NDArray[np.int_], side: int) -> None:
    x, y = corner
    cv2.imwrite(str(path), frame[y : y + side, x : x + side])


def strangers(scene: Scene, part: Layers, rng: Generator) -> Iterator[tuple[str, Pixels]]:
    """Frames without the part, kind after kind without end, each with its kind."""
    others = {
        "round part": replace(scene, outline="round", balls=7, mark_inset=0.15, text="RF-2"),
        "wide part": replace(scene, outline="wide", balls=9, mark_inset=0.12, text="SOIC"),
        "triangle": replace(scene, outline="triangle", balls=5, mark_inset=0.13, text="LED"),
        "other ball grid": replace(scene, balls=11, mark_inset=0.2, text="QFN 32"),
        "marks elsewhere": replace(scene, balls=6, mark_inset=0.035, text="XY-7"),
    }
    drawn = {kind: (other, product(other)) for kind, other in others.items()}
    while True:
        yield "empty tray", noisy(tray(scene, rng), rng)
        yield "noise", noisy(texture(scene, rng, 64, 2.0), rng, rng.uniform(5, 40))
        for _ in range(3):
            spots = texture(scene, rng, int(rng.integers(4, 400)), rng.uniform(10, 60))
            yield "spots", noisy(spots, rng)
        yield "stripes", noisy(_stripes(scene, rng), rng)
        yield "board", noisy(_board(scene, rng), rng)
        for kind, (other, layers) in drawn.items():
            yield kind, render(other, layers, sway(scene, rng, 40, 2), rng)
        away = scene.part_px * rng.choice([-1, 1], 2) * rng.uniform(0.45, 0.6, 2)
        yield "cut off", render(scene, part, turned(scene, away, 0), rng)
        angle = float(rng.choice([-1, 1]) * rng.uniform(14, 30))
        yield "turned away", render(scene, part, turned(scene, np.zeros(2), angle), rng)


SAME_OUTLINE = ("other ball grid", "marks elsewhere")
"""Kinds that are the part as far as its outline tells."""


def _stripes(scene: Scene, rng: Generator) -> Pixels:
    height, width = scene.shape
    period, angle = rng.uniform(8, 300), rng.uniform(0, np.pi)
    y, x = np.ogrid[:height, :width]
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)).astype(np.float32) * (2 * np.pi / period))
    return np.where(wave > 0, np.uint8(170), np.uint8(60))


def _board(scene: Scene, rng: Generator) -> Pixels:
    """Pads, traces and chips, at random."""
    frame = tray(scene, rng)
    height, width = scene.shape
    for _ in range(120):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        a, b = (int(side) for side in rng.integers(6, scene.part_px // 4, 2))
        level = int(rng.integers(20, 240))
        if rng.random() < 0.5:
            cv2.rectangle(frame, (x, y), (x + a, y + b), level, -1)
        else:
            cv2.circle(frame, (x, y), a // 3, level, -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(frame, (5, 5), 0), np.uint8)
