"""
Runs the rows of a results table one after another, keeps what came out, and writes the page.

A row whose result for the same commands and the same images is kept is not run again; a row that
fails says so on the page. Nothing here trains or scores: each row is its own commands.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.results_class_maps import write_class_maps
from bench.results_columns import COLUMNS
from bench.results_confusions import write_confusions
from bench.results_page import write_page
from bench.results_pictures import write_pictures
from bench.results_plots import write_plots
from bench.results_units import Unit, digest_of, read_spec, units
from edge_inspector.studies.facts import facts
from edge_inspector.studies.metrics import rounded

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "bench/results_anomaly.toml"
DRAWN = {
    "anomaly": (write_plots, write_pictures),
    "classifiers": (write_confusions, write_class_maps),
}
"""Plots for the page and pictures for a person, by the tables' name."""
QUIET = {
    "OMP_NUM_THREADS": "1",
    # Without these glibc gives every large tensor back to the kernel: half of a step of the VAE.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
}
"""What the children see besides: one thread, and memory that is kept."""
OWN = "edge-inspector: "
"""How the command line begins the sentence about what went wrong."""
TOLD = ("commit", "date", "cpu")
TRAINING = ("steps", "seconds", "ended", "images", "epochs", "weights")
"""What the page tells of a training, of the engine's `figures.json`."""


def main() -> int:
    """0 when every chosen row is there, 1 when some failed or were not run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=Path, default=SPEC, help="default: the anomaly models")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", action="append", default=[], metavar="TABLE[/ROW[/DATA]]")
    parser.add_argument("--seeds", type=int, metavar="N", help="only the first N of each row")
    parser.add_argument("--minutes-each", type=float, default=15.0, help="limit of a command")
    parser.add_argument("--again", action="store_true", help="run rows that are kept, too")
    parser.add_argument("--rescore", action="store_true", help="score the engines there are again")
    parser.add_argument("--page", action="store_true", help="write the page from what is kept")
    args = parser.parse_args()
    spec = read_spec(args.spec)
    os.chdir(ROOT)
    file = kept_of(spec)
    plot, picture = DRAWN[spec["name"]]
    missed = 0 if args.page else run_all(spec, file, args)
    results = list(read_kept(file).values())
    if not args.page:
        picture(spec, results)
    plot(spec, results)
    write_page(spec, results)
    return 1 if missed else 0


def kept_of(spec: dict[str, Any]) -> Path:
    """The file of the results."""
    return ROOT / f"bench/results/{spec['name']}.jsonl"


def read_kept(file: Path) -> dict[tuple[str, str, str, int], dict[str, Any]]:
    """The last result of every row."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    results = [json.loads(line) for line in lines]
    return {(r["table"], r["row"], r["data"], r["seed"]): r for r in results}


def run_all(spec: dict[str, Any], file: Path, args: Any) -> int:
    """Rows that have no result at the end; `file` keeps those that have."""
    kept = read_kept(file)
    chosen = chosen_of(units(spec, args.data, args.seeds), args.only)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    digests: dict[str, str] = {}
    missed = 0
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("", total=len(chosen))
        for unit in chosen:
            progress.update(task, description=unit.title)
            if unit.data not in digests:
                digests[unit.data] = _made(spec["data"][unit.data], unit, args.data)
            for result in _run_unit(unit, digests[unit.data], kept, args):
                _keep(file, result)
                console.print(
                    f"{unit.table}/{result['row']} on {unit.data}, seed {unit.seed}: ", end=""
                )
                console.print(_short(result))
                missed += result["outcome"] != "ok"
            progress.advance(task)
    return missed


def chosen_of(all_units: Iterable[Unit], only: Sequence[str]) -> list[Unit]:
    """Those that `only` names, in its order; all without it."""
    if not only:
        return list(all_units)
    wanted = [tuple(text.split("/")) for text in only]
    ranked = [(_rank(unit, wanted), unit) for unit in all_units]
    known = [pair for pair in ranked if pair[0] < len(wanted)]
    return [unit for _, unit in sorted(known, key=lambda pair: pair[0])]


def _rank(unit: Unit, wanted: list[tuple[str, ...]]) -> int:
    """Which of the wanted names a unit; their count where none does."""
    wholes = [(unit.table, name, unit.data) for name in (unit.name, *unit.rows)]
    found = (n for n, words in enumerate(wanted) if any(w[: len(words)] == words for w in wholes))
    return next(found, len(wanted))


def _made(source: dict[str, str], unit: Unit, data: Path) -> str:
    """The digest of a data set, which is made first if need be; '' where its source is absent."""
    needs = data / source["needs"]
    if not needs.exists():
        return ""
    if "make" in source and not unit.csv.exists():
        unit.csv.parent.mkdir(parents=True, exist_ok=True)
        _clear(unit.csv.parent)
        problem = _run(
            source["make"].format(needs=needs, folder=unit.csv.parent),
            unit.csv.parent.parent / "log.txt",
            15,
        )
        if problem:
            return ""
    return digest_of(unit.csv)


def _run_unit(
    unit: Unit, digest: str, kept: dict[Any, dict[str, Any]], args: Any
) -> Iterator[dict[str, Any]]:
    """The rows of a unit that had to be run."""
    there = {row for row in unit.rows if _is_there(unit, row, digest, kept)}
    rows = [row for row in unit.rows if args.again or (row in there) == args.rescore]
    if not rows:
        return
    problem = "" if digest else "not run: its data are not here"
    log = unit.out / "log.txt"
    unit.out.mkdir(parents=True, exist_ok=True)
    if unit.train and not problem and not args.rescore:
        for folder in unit.out.iterdir():
            if folder.is_dir():
                _clear(folder)
        for command in unit.commands(rows[0])[:-1]:
            problem = problem or _run(command, log, args.minutes_each)
    for row in rows:
        trouble = problem or _run(unit.commands(row)[-1], log, args.minutes_each)
        yield {
            "table": unit.table,
            "row": row,
            "data": unit.data,
            "seed": unit.seed,
            "outcome": trouble or "ok",
            "commands": unit.commands(row),
            "digest": digest,
            **({} if trouble else _found(unit, row)),
            "load": round(os.getloadavg()[0], 1),
            **{name: value for name, value in facts().items() if name in TOLD},
        }


def _is_there(unit: Unit, row: str, digest: str, kept: dict[Any, dict[str, Any]]) -> bool:
    old = kept.get(unit.key(row))
    same = old is not None and (old["commands"], old["digest"]) == (unit.commands(row), digest)
    return same and old is not None and old["outcome"] == "ok"


def _found(unit: Unit, row: str) -> dict[str, Any]:
    """What the commands wrote: the report, and how training went."""
    report = json.loads(unit.file(row, ".json").read_text(encoding="utf-8"))
    figures = unit.out / unit.rows[row] / "figures.json"
    told = json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else {}
    training = {name: told[name] for name in TRAINING if name in told}
    return {"report": rounded(report, 6), "training": training}


def _run(command: str, log: Path, minutes: float) -> str:
    """Run a command to its end; '' or a sentence about what went wrong."""
    words = shlex.split(command)
    words[0] = {"python": sys.executable}.get(words[0], str(Path(sys.executable).parent / words[0]))
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {command}\n")
        file.flush()
        with subprocess.Popen(
            ["nice", "-n", "5", *words],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **QUIET},
            start_new_session=True,
        ) as child:
            try:
                code = child.wait(minutes * 60)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                return f"failed: took more than {minutes:g} minutes"
            except KeyboardInterrupt:
                os.killpg(child.pid, signal.SIGINT)
                child.wait(30)
                raise
    return "" if code == 0 else f"failed: {_last_words(log)} (exit {code})"


def _last_words(log: Path) -> str:
    """What the last command said of its end."""
    said = log.read_text(encoding="utf-8").rpartition("\n$ ")[2].strip().splitlines()[1:]
    own = [line.removeprefix(OWN) for line in said if line.startswith(OWN)]
    return (own or said or ["it said nothing"])[-1][:300]


def _clear(folder: Path) -> None:
    """Engines never change; a new try begins in an empty folder."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def _keep(file: Path, result: dict[str, Any]) -> None:
    """Put a result in place of the one before; several runners may do so at a time."""
    file.parent.mkdir(exist_ok=True)
    lock = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = read_kept(file)
        kept[(result["table"], result["row"], result["data"], result["seed"])] = result
        text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in kept.values())
        draft = file.with_suffix(".new")
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    finally:
        os.close(lock)


def _short(result: dict[str, Any]) -> str:
    if result["outcome"] != "ok":
        return str(result["outcome"])
    told = ("auroc", "macro_f1", "unknown_f1", "ms")
    found = [(COLUMNS[n][0], COLUMNS[n][1](result)) for n in told]
    return ", ".join(f"{name} {value:.3f}" for name, value in found if value is not None)


if __name__ == "__main__":
    sys.exit(main())
