"""`demo`: a simulated BGA line, the daemon and a reference controller, on the shipped engine."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomlkit
from rich.console import Console
from rich.live import Live

from edge_inspector import clock
from edge_inspector.cli.demo_view import picture, summary_text
from edge_inspector.client import VerdictConsumer
from edge_inspector.errors import Breakage, Misuse
from edge_inspector.outbox.log import Log
from edge_inspector.recipe import load_recipe
from edge_inspector.studies.harness import Station, free_port, start_load
from edge_inspector.studies.tally import Tally

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "demo"
LAST_VERDICTS_S = 2.0


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Arguments of `demo`."""
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the line runs")
    parser.add_argument("--units-per-second", type=float, default=20.0)
    parser.add_argument("--defect-rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/demo"), help="folder, made anew")
    parser.add_argument("--json", action="store_true", help="print the summary as one object")


def run_demo(args: argparse.Namespace) -> int:
    """1 when a unit was lost or got two verdicts."""
    if args.seconds <= 0 or args.units_per_second <= 0 or not 0 <= args.defect_rate <= 1:
        raise Misuse("--seconds and --units-per-second must be above 0, --defect-rate within 0..1")
    folder = _fresh(args.out)
    settings, frames, verdicts = _settings(folder)
    budget_ms = load_recipe(Path(settings["recipe"])).latency_budget_ms
    tally = Tally(budget_ms=budget_ms)
    with (
        Station(folder, settings) as station,
        VerdictConsumer(verdicts, consumer="demo-gate", station="demo") as controller,
    ):
        line = start_load(
            frames,
            folder / "truth.jsonl",
            max(1, round(args.seconds * args.units_per_second)),
            args.units_per_second,
            seed=args.seed,
            defect_rate=args.defect_rate,
        )
        try:
            _follow(line, controller, tally, folder, _screen(args, tally, station.startup_s))
        finally:
            line.terminate()
            line.wait()
    accepted = Log(folder / "state").head()
    summary = tally.summary(accepted) | {"rejects": str(folder / "rejects")}
    print(json.dumps(summary) if args.json else summary_text(summary))
    return 1 if summary["lost"] or summary["doubled"] else 0


def _fresh(folder: Path) -> Path:
    """An empty folder; only one that an earlier demo left is emptied."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "truth.jsonl").exists():
            raise Misuse(f"{folder} holds other files; give an empty folder with --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "truth.jsonl").touch()
    return folder.resolve()


def _settings(folder: Path) -> tuple[dict[str, Any], str, str]:
    """The example station on free ports, its state and pictures in `folder`; both endpoints."""
    path = EXAMPLE / "station.toml"
    if not path.exists():
        raise Breakage(f"{path} is missing; the demo needs a checkout or 'pip install -e .'")
    settings = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    frames, verdicts = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    settings["recipe"] = str(EXAMPLE / "recipe.toml")
    settings["sources"][0]["endpoint"] = frames
    settings["sinks"][0]["endpoint"] = verdicts
    settings["archive"]["path"] = str(folder / "rejects")
    return settings, frames, verdicts


def _follow(
    line: subprocess.Popen[bytes],
    controller: VerdictConsumer,
    tally: Tally,
    folder: Path,
    show: Callable[[], Any],
) -> None:
    """Count verdicts until the line has stopped and nothing more is owed."""
    with (folder / "truth.jsonl").open(encoding="utf-8") as truth, show() as screen:
        quiet_since = clock.now_ns()
        while True:
            ended = line.poll() is not None
            for row in truth:
                unit = json.loads(row)
                tally.offer(unit["unit_id"], unit["label"])
            delivered = controller.receive(timeout_ms=50)
            now = clock.now_ns()
            if delivered is not None:
                tally.receive(delivered.verdict, now)
                quiet_since = now
            screen.tick()
            owed = tally.verdicts < len(tally.truth)
            if ended and (not owed or now - quiet_since > LAST_VERDICTS_S * 1e9):
                return


class _Screen:
    """The live view on a terminal, drawn ten times a second; nothing elsewhere."""

    def __init__(self, live: Live | None, draw: Callable[[], Any]) -> None:
        self._live = live
        self._draw = draw
        self._drawn_ns = 0

    def __enter__(self) -> _Screen:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.update(self._draw(), refresh=True)
            self._live.__exit__(None, None, None)

    def tick(self) -> None:
        """Draw again when it is time."""
        now = clock.now_ns()
        if self._live is not None and now - self._drawn_ns > 100_000_000:
            self._drawn_ns = now
            self._live.update(self._draw(), refresh=True)


def _screen(args: argparse.Namespace, tally: Tally, startup_s: float) -> Callable[[], _Screen]:
    console = Console(stderr=True)
    live = None
    if console.is_terminal:
        live = Live(console=console, auto_refresh=False)
    units = max(1, round(args.seconds * args.units_per_second))
    return lambda: _Screen(live, lambda: picture(tally, units, startup_s))
