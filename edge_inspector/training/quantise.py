"""A second graph of an engine, in eight bits, kept only where it finds what the first one finds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector import clock
from edge_inspector.backends import open_first
from edge_inspector.bundle import Engine
from edge_inspector.errors import DataError, EngineRefused, Misuse
from edge_inspector.manifest import Input, Manifest, Quantised
from edge_inspector.protocols import Session
from edge_inspector.records import Pixels
from edge_inspector.studies import metrics
from edge_inspector.studies.dataset import Item, is_good, load_crops, read_items
from edge_inspector.training.eight_bits import eight_bits, pools_as_convolutions
from edge_inspector.training.export import (
    FROZEN,
    RUNTIMES,
    agreements,
    check_folder,
    proved,
    write_folder,
)
from edge_inspector.training.marred import Marred
from edge_inspector.training.twins import EXPORTED, twin

OVERKILL = 0.005
"""Share of held-out good crops that the threshold of both recalls may reject."""
FALL = 0.005
"""Most that recall may fall."""
CALIBRATION, MARRED = 200, 20
"""Good training crops that set the ranges, and marred ones: a fault must not be cut off."""
AGREEMENT = 0.1
"""Largest difference of a score between runtimes in eight bits, in spreads of good scores."""
ROUNDED = 0.01
"""More of it, of a score itself: far out, each step of a range is large."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """What sets the ranges, and what the gate is passed on; `made` where the data has no defect."""

    calibration: Pixels
    good: Pixels
    bad: Pixels
    made: bool


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Raw scores of one runtime: of good and of bad crops, and of the challenge pair."""

    good: Floats
    bad: Floats
    challenge: Floats

    def recall(self) -> float:
        """Share of the bad crops found, at the threshold that the good ones allow."""
        return float((self.bad >= metrics.threshold_at(self.good, OVERKILL)).mean())


def quantise(engine: Engine, data: Path, out: Path) -> Manifest:
    """
    Write the next version of an engine with both graphs.

    Raises `EngineRefused` with the figures where eight bits lose too much, `Misuse`, `DataError`;
    nothing is written then.
    """
    manifest = engine.manifest
    name, number = check_folder(out)
    if manifest.kind != "anomaly":
        raise Misuse(
            f"{engine.title} is a {manifest.kind} engine, whose limits of 'unknown' hold for "
            "float32 alone; quantise anomaly engines"
        )
    crops = read_crops(manifest.input, data, manifest.seed)
    model = twin(engine.model, EXPORTED)
    frozen = np.concatenate([crops.good[:FROZEN], crops.bad[:FROZEN]])
    _, reference = open_first(["onnxruntime"], engine.model, 1)
    differences = agreements(reference, model, frozen, manifest.challenge.tolerance)
    eight = eight_bits(twin(model, (pools_as_convolutions,)), crops.calibration)
    pair = np.stack([engine.good, engine.bad])
    plain = {each: _scores(each, model, crops, pair) for each in RUNTIMES}
    found = {each: _scores(each, eight, crops, pair) for each in RUNTIMES}
    quantised = gate(engine, plain, found, crops)
    draft = manifest.model_copy(
        update={
            "name": name,
            "version": number,
            "int8": quantised,
            "created_utc": clock.utc_text(clock.utc_ns()),
        }
    )
    told = {
        **_figures(engine.folder),
        "of": {"engine": engine.title, "digest": engine.digest},
        **proved(differences),
        "int8": {each: metrics.rounded(_told(plain[each], found[each]), 6) for each in RUNTIMES},
    }
    more = {quantised.model: eight}
    return write_folder(out, draft, model, (engine.good, engine.bad), told, more)


def read_crops(shape: Input, data: Path, seed: int) -> Crops:
    """Training crops, and held-out ones of both kinds; raises `DataError` where good ones lack."""
    items = read_items(data)
    rng = np.random.default_rng(seed)
    train = [item for item in items if item.split == "train" and is_good(item.label)]
    chosen = rng.permutation(len(train))[:CALIBRATION]
    held_out = [item for item in items if item.split == "val"]
    calibration = _read([train[index] for index in chosen], shape)
    good = _read([item for item in held_out if is_good(item.label)], shape)
    bad = _read([item for item in held_out if not is_good(item.label)], shape)
    needed = round(1 / OVERKILL)
    if not calibration or len(good) < needed:
        raise DataError(
            f"{data}: has {len(calibration)} good crops to set ranges with and {len(good)} good "
            f"ones in split 'val'; a recall at {OVERKILL:.1%} overkill takes at least {needed}"
        )
    calibration += islice(_made(np.stack(calibration), seed), MARRED)
    made = [] if bad else list(islice(_made(np.stack(good), seed), len(good)))
    return Crops(np.stack(calibration), np.stack(good), np.stack(bad or made), bool(made))


def _read(items: Sequence[Item], shape: Input) -> list[Pixels]:
    return [crop for _, crop in load_crops(items, shape, [])]


def _made(good: Pixels, seed: int) -> Iterator[Pixels]:
    """Good crops with a visible fault made in them, without end."""
    for batch in Marred(good, max(min(good.shape[1:3]) // 32, 1), seed, 0):
        faulty = (batch.faults == 1).flatten(1).any(dim=1)
        yield from batch.crops[faulty].numpy()


def gate(
    engine: Engine, plain: Mapping[str, Scores], found: Mapping[str, Scores], crops: Crops
) -> Quantised:
    """What the manifest says of eight bits; raises `EngineRefused` where a runtime loses too much."""
    for name in found:
        before, after = plain[name].recall(), found[name].recall()
        if after < before - FALL:
            raise EngineRefused(
                f"{engine.title}: in eight bits {name} finds {after:.4f} of {len(crops.bad)} "
                f"defects at {OVERKILL:.1%} overkill, in float32 {before:.4f}; it may fall by "
                f"{FALL}; nothing was written, keep the float32 engine"
            )
    first, *others = found.values()
    scores = np.concatenate([first.challenge, first.good, first.bad])
    limits = AGREEMENT * engine.manifest.statistics.spread + ROUNDED * np.abs(scores)
    for name, other in zip(list(found)[1:], others, strict=True):
        away = np.abs(np.concatenate([other.challenge, other.good, other.bad]) - scores)
        worst = int(np.argmax(away / limits))
        if not away[worst] <= limits[worst]:
            raise EngineRefused(
                f"{engine.title}: in eight bits {name} and {next(iter(found))} differ by "
                f"{away[worst]:.3g} in a score of {scores[worst]:.3g}, the limit is "
                f"{limits[worst]:.3g}; nothing was written, keep the float32 engine"
            )
    return Quantised(
        quantiser=f"onnxruntime {version('onnxruntime')}",
        calibration_crops=len(crops.calibration),
        validation_crops=len(crops.good) + len(crops.bad),
        defects="made" if crops.made else "known",
        overkill=OVERKILL,
        recall_float32=max(scores.recall() for scores in plain.values()),
        recall_int8=min(scores.recall() for scores in found.values()),
        good_score=float(first.challenge[0]),
        bad_score=float(first.challenge[1]),
        tolerance=float(limits[:2].max()),
    )


def _scores(name: str, model: bytes, crops: Crops, pair: Pixels) -> Scores:
    _, session = open_first([name], model, 1)
    good, bad, challenge = (_run(session, each) for each in (crops.good, crops.bad, pair))
    session.close()
    return Scores(good, bad, challenge)


def _run(session: Session, crops: Pixels) -> Floats:
    return np.asarray(session.run(crops)["score"], np.float64)


def _told(plain: Scores, found: Scores) -> dict[str, Any]:
    """What figures.json says of one runtime."""
    moved = np.abs(found.good - plain.good)
    return {
        "recall_float32": plain.recall(),
        "recall": found.recall(),
        "score_moved_median": float(np.median(moved)),
        "score_moved_max": float(moved.max()),
    }


def _figures(folder: Path) -> dict[str, Any]:
    """What the engine's own figures.json says, if it has one."""
    path = folder / "figures.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found
