"""
What `teach` promises and what it keeps: taught on some units of a product, judged on fresh ones.

    python -m bench.bench_teach connector --units 400 --fresh 1000 --seeds 20
    python -m bench.bench_teach frames/ --good '*_temp.jpg' --units 400 --showings 8 --jitter 1
    python -m bench.bench_teach split.csv --size 256x256 --units 500

With `--showings` the fresh units are other showings of the pictures that taught, not other ones.
The recorded units have an incumbent that errs at `--errors`, so that some of its good ones are
not. One JSON line a seed; `kept` says whether the realised overkill may be what was promised.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector import clock
from edge_inspector.inspector import Inspector, open_inspector
from edge_inspector.records import FrameHead, FrameKey, Outcome
from edge_inspector.simulator.connector import ConnectorLine
from edge_inspector.studies.calibrate_recipe import file_frame
from edge_inspector.studies.dataset import is_good, read_image
from edge_inspector.studies.facts import facts
from edge_inspector.studies.metrics import interval
from edge_inspector.studies.played import Exposure, incumbent_said, pictures
from edge_inspector.studies.recorded import GIB, Recording
from edge_inspector.training.teach import Taught, Wish, teach
from edge_inspector.training.teach_words import words
from edge_inspector.wire.incumbent import read_incumbent


@dataclass(frozen=True, slots=True)
class Shown:
    """One unit with its truth."""

    label: str
    pixels: NDArray[Any]


def main() -> int:
    """Print a line a seed, and the count of kept promises."""
    args = arguments()
    kept = []
    for seed in range(args.seed, args.seed + args.seeds):
        with tempfile.TemporaryDirectory(dir=args.work) as folder:
            report = measured(args, seed, Path(folder))
        kept.append(report["kept"])
        print(json.dumps(report), flush=True)
    print(f"{sum(kept)} of {len(kept)} promises kept", file=sys.stderr)
    return 0


def arguments() -> argparse.Namespace:
    """What to teach, on how much of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", help="'connector', a folder of pictures or a CSV")
    parser.add_argument("--good", help="names of a folder's good pictures")
    parser.add_argument("--size", help="scale pictures to WIDTHxHEIGHT")
    parser.add_argument("--jitter", type=float, default=0.0, help="px that a showing moves by")
    parser.add_argument("--showings", type=int, default=1, help="of each picture, with --jitter")
    parser.add_argument("--units", type=int, default=400, help="recorded, defective ones included")
    parser.add_argument("--fresh", type=int, default=1000, help="good units to judge at most")
    parser.add_argument("--defect-rate", type=float, default=0.1)
    parser.add_argument("--errors", type=float, default=0.02, help="of the incumbent")
    parser.add_argument("--overkill", type=float, default=0.01)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, help="folder for what is recorded and taught")
    return parser.parse_args()


def measured(args: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    """Record, teach and judge once."""
    cv2.setNumThreads(1)
    recorded, fresh = divided(args, seed)
    record(folder / "recorded", recorded, args.errors, seed)
    wish = Wish(
        args.scene if args.scene == "connector" else "product",
        overkill=args.overkill,
        minutes=args.minutes,
        seed=seed,
        steps=args.steps,
        threads=args.threads,
    )
    begun = clock.now_ns()
    taught = teach(
        folder / "recipe.toml",
        folder / "recorded",
        wish,
        lambda text: print(text, file=sys.stderr),
        lambda stage, done, total: None,
    )
    minutes = (clock.now_ns() - begun) / 60e9
    print("\n".join(words(taught)), file=sys.stderr)
    with open_inspector(folder / "recipe.toml") as inspector:
        outcomes = judged(inspector, fresh)
    return report(args, seed, taught, minutes, outcomes)


def divided(args: argparse.Namespace, seed: int) -> tuple[Sequence[Shown], Iterable[Shown]]:
    """Units to record, at the defect rate, and others to judge."""
    rng = np.random.default_rng([seed, 9])
    if args.scene == "connector":
        line = ConnectorLine(seed=1000 + seed, defect_rate=args.defect_rate)
        units = (Shown(u.label, u.pixels) for u in (line.unit(i) for i in range(1, 10**6)))
        return [next(units) for _ in range(args.units)], until(units, args.fresh)
    width, _, height = (args.size or "").partition("x")
    exposure = Exposure((int(width), int(height)) if args.size else None, args.jitter)
    files = pictures(Path(args.scene), good=args.good)
    good = [p for p in files if is_good(p.label or "")] * args.showings
    bad = [p for p in files if not is_good(p.label or "")]
    good, bad = ([part[i] for i in rng.permutation(len(part))] for part in (good, bad))
    worse = round(args.defect_rate * args.units)
    chosen = [*good[: args.units - worse], *bad[:worse]]
    rest = [*good[args.units - worse :][: args.fresh], *bad[worse:]]

    def shown(picture: Any) -> Shown:
        taken = exposure.take(picture.path, rng)
        pixels = read_image(picture.path) if isinstance(taken, bytes) else taken
        return Shown(picture.label, pixels)

    order = rng.permutation(len(chosen))
    return [shown(chosen[i]) for i in order], (shown(p) for p in rest)


def record(folder: Path, units: Sequence[Shown], errors: float, seed: int) -> None:
    """As `record` would have left them."""
    with Recording(folder, len(units), quota_bytes=8 * GIB, reserve_bytes=0) as recording:
        for number, unit in enumerate(units, start=1):
            said = incumbent_said(unit.label, errors, seed, number)
            head = FrameHead(
                key=FrameKey("bench", "1", number),
                station="bench",
                camera="main",
                recipe="",
                arrived_ns=0,
                time_zero_ns=number,
                unit_id=f"{number}-{unit.label}",
                incumbent=read_incumbent(said) if said else None,
            )
            recording.add(head, unit.pixels)


def until(units: Iterator[Shown], most: int) -> Iterator[Shown]:
    """Units of a line, up to so many good ones."""
    good = 0
    while good < most:
        unit = next(units)
        good += is_good(unit.label)
        yield unit


def judged(inspector: Inspector, units: Iterable[Shown]) -> dict[str, dict[str, int]]:
    """Outcomes by label."""
    counts: dict[str, dict[str, int]] = {}
    for unit in units:
        outcome = inspector.inspect(file_frame(unit.pixels, "main", "bench")).outcome
        by = counts.setdefault(unit.label, {o.value: 0 for o in Outcome})
        by[outcome.value] += 1
    return counts


def report(
    args: argparse.Namespace,
    seed: int,
    taught: Taught,
    minutes: float,
    counts: dict[str, dict[str, int]],
) -> dict[str, Any]:
    """One line: what was promised, what was realised."""
    by_good = [by for label, by in counts.items() if is_good(label)]
    good = sum(sum(by.values()) for by in by_good)
    lost = good - sum(by["pass"] for by in by_good)
    low, high = interval(lost, good)
    defective = {label: by for label, by in counts.items() if not is_good(label)}
    total = sum(sum(by.values()) for by in defective.values())
    caught = total - sum(by["pass"] for by in defective.values())
    table = taught.calibration
    return {
        "scene": Path(args.scene).name,
        "showings": args.showings,
        "seed": seed,
        "minutes": round(minutes, 2),
        "units": taught.units,
        "models": {engine.name: engine.choice.model for engine in taught.engines},
        "tools": taught.tools,
        "asked_overkill": table.overkill,
        "promised_overkill": round(table.promised_overkill, 5),
        "rests_on": table.units,
        "set_aside": table.set_aside,
        "good": good,
        "overkill": round(lost / good, 5),
        "interval": [round(low, 5), round(high, 5)],
        "kept": low <= table.promised_overkill,
        "defective": total,
        "recall": round(caught / total, 4) if total else None,
        "recalls": {
            label: round(1 - by["pass"] / sum(by.values()), 3)
            for label, by in sorted(defective.items())
        },
        "uninspected_good": sum(by["uninspected"] for by in by_good),
        **facts(),
    }


if __name__ == "__main__":
    sys.exit(main())
