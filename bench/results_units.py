"""What a results table names: each training with the rows that are scored from it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUT = Path("results/anomaly")
MADE = Path("results/data")
EVALUATE = "edge-inspector evaluate {engine} --data {csv} --json {report} --scores {scores}"


@dataclass(frozen=True, slots=True)
class Unit:
    """One training with what is scored from it: `rows` are title and engine, relative to `out`."""

    table: str
    name: str
    data: str
    seed: int
    csv: Path
    out: Path
    train: str
    rows: dict[str, str]
    evaluate: str

    @property
    def title(self) -> str:
        """As `--only` takes it, with what distinguishes it."""
        return f"{self.table}/{self.name} on {self.data}, seed {self.seed}"

    def key(self, row: str) -> tuple[str, str, str, int]:
        """What a kept result is found by."""
        return (self.table, row, self.data, self.seed)

    def file(self, row: str, suffix: str) -> Path:
        """Where a row's report or scores lie."""
        return self.out / (re.sub(r"[^a-z0-9]+", "-", row.lower()) + suffix)

    def commands(self, row: str) -> list[str]:
        """What makes a row, as typed in the repository's folder."""
        places = {"csv": self.csv, "out": self.out, "seed": self.seed, "data": self.data}
        scored = {
            "engine": self.out / self.rows[row],
            "report": self.file(row, ".json"),
            "scores": self.file(row, ".csv"),
        }
        texts = [self.train, self.evaluate] if self.train else [self.evaluate]
        return [text.format(**places, **scored) for text in texts]


def units(spec: dict[str, Any], data: Path) -> Iterator[Unit]:
    """Every training that the tables name: all with their first seed, then with their second."""
    most = max(len(run.get("seeds", [0])) for run in spec["run"])
    for turn in range(most):
        for run in spec["run"]:
            seeds = run.get("seeds", [0])
            for name in run["data"] if turn < len(seeds) else ():
                yield _unit(run, name, spec["data"][name], seeds[turn], data)


def _unit(run: dict[str, Any], name: str, source: dict[str, str], seed: int, data: Path) -> Unit:
    made = MADE / name / "data.csv"
    slug = re.sub(r"[^a-z0-9.]+", "-", run["name"].lower())
    return Unit(
        table=run["table"],
        name=run["name"],
        data=name,
        seed=seed,
        csv=made if "make" in source else data / source["needs"],
        out=OUT / run["table"] / name / slug / str(seed),
        train=run.get("train", ""),
        rows=run.get("rows", {run["name"]: "engine"}),
        evaluate=run.get("evaluate", EVALUATE),
    )


def digest_of(csv: Path) -> str:
    """sha256 of the table and of every file that it lists."""
    text = csv.read_bytes()
    whole = hashlib.sha256(text)
    for line in text.decode("utf-8-sig").splitlines()[1:]:
        file = csv.parent / line.split(",", 1)[0]
        whole.update(file.read_bytes() if file.is_file() else b"absent")
    return whole.hexdigest()
