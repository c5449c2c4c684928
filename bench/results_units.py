"""What a results table names: each training with the rows that are scored from it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

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
    train: tuple[str, ...]
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
        return [text.format(**places, **scored) for text in (*self.train, self.evaluate)]


def read_spec(path: Path) -> dict[str, Any]:
    """
    The tables to make; `name` is what follows `results_` in the file's name.

    A run with `labels` stands for one run each, `{label}` replaced in its words.
    """
    spec: dict[str, Any] = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    runs = [one for run in spec["run"] for one in _each(run)]
    return {**spec, "name": path.stem.removeprefix("results_"), "run": runs}


def _each(run: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for label in run.get("labels", [""]):
        yield {key: _filled(value, label) for key, value in run.items() if key != "labels"}


def _filled(value: Any, label: str) -> Any:
    if isinstance(value, str):
        return value.replace("{label}", label)
    if isinstance(value, list):
        return [_filled(inner, label) for inner in value]
    if isinstance(value, dict):
        return {_filled(key, label): _filled(inner, label) for key, inner in value.items()}
    return value


def with_borrowed(spec: dict[str, Any], results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results, and those again that a run with `from` shows of another table's."""
    again = [
        {**result, "table": run["table"]}
        for run in spec["run"]
        for result in results
        if run.get("from") == result["table"]
        and run["name"] == result["row"]
        and result["data"] in run["data"]
    ]
    return [*results, *again]


def units(spec: dict[str, Any], data: Path, seeds: int | None = None) -> Iterator[Unit]:
    """Every training that the tables name: all with their first seed, then with their second."""
    own = [run for run in spec["run"] if "from" not in run]
    most = max(len(run.get("seeds", [0])) for run in own)
    for turn in range(most if seeds is None else min(most, seeds)):
        for run in own:
            of_run = run.get("seeds", [0])
            for name in run["data"] if turn < len(of_run) else ():
                yield _unit(spec, run, name, of_run[turn], data)


def _unit(spec: dict[str, Any], run: dict[str, Any], name: str, seed: int, data: Path) -> Unit:
    source, made = spec["data"][name], MADE / name / "data.csv"
    train = run.get("train", [])
    slug = re.sub(r"[^a-z0-9.]+", "-", run["name"].lower())
    return Unit(
        table=run["table"],
        name=run["name"],
        data=name,
        seed=seed,
        csv=made if "make" in source else data / source["needs"],
        out=Path("results") / spec["name"] / run["table"] / name / slug / str(seed),
        train=(train,) if isinstance(train, str) else tuple(train),
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
