"""
A kill -9 drill on a whole station, judged from the clients' own records.

    python bench/bench_kills.py recipe.toml frames/ --units 2000 --rate 20 --every 10

A folder of images is offered over the ASSURED tier while core, ingest, worker and delivery are killed
in turn; a line controller listens. Prints one JSON object; 1 when anything was lost, doubled or
contradicted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from edge_inspector import clock
from edge_inspector.client import Delivered, VerdictConsumer
from edge_inspector.outbox import Log
from edge_inspector.records import Verdict
from edge_inspector.settings import process_environment
from edge_inspector.studies.harness import Station, free_port
from edge_inspector.studies.tally import percentiles

VICTIMS = ("core", "ingest", "worker", "delivery")
LAST_S = 15.0


def main() -> int:
    """Run the drill in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("frames", type=Path, help="folder of images, offered in turn")
    parser.add_argument("--units", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds from kill to kill")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    frames, verdicts = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    settings = {
        "station": "drill",
        "recipe": str(args.recipe.resolve()),
        "sources": [{"name": "line", "type": "assured", "endpoint": frames}],
        "sinks": [{"type": "assured", "endpoint": verdicts}],
    }
    heard: list[tuple[Delivered, int]] = []
    with Station(folder, settings) as station, VerdictConsumer(verdicts, consumer="gate") as gate:
        source = offer(folder, frames, args)
        killed = drill(station, gate, source, heard, args.every)
        listen(gate, heard, lambda: gate.upto < Log(folder / "state").head(), LAST_S)
    summary = judge(folder, heard) | {"killed": dict(killed), "source_exit": source.returncode}
    print(json.dumps(summary))
    return 1 if any(summary[name] for name in ("lost", "doubled", "contradicted", "unheard")) else 0


def offer(folder: Path, endpoint: str, args: argparse.Namespace) -> subprocess.Popen[bytes]:
    """The source, a process of its own."""
    words: dict[str, Any] = {
        "--to": endpoint,
        "--kind": "assured",
        "--rate": args.rate,
        "--units": args.units,
        "--first": 1,
        "--truth": folder / "truth.jsonl",
        "--records": folder / "records.jsonl",
    }
    options = [str(word) for pair in words.items() for word in pair]
    command = [sys.executable, "-m", "edge_inspector.cli.main", "simulate", str(args.frames)]
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, env=process_environment({})
    )


def drill(
    station: Station,
    gate: VerdictConsumer,
    source: subprocess.Popen[bytes],
    heard: list[tuple[Delivered, int]],
    every_s: float,
) -> Counter[str]:
    """Kill one after the other until the source has ended."""
    killed: Counter[str] = Counter()
    for victim in itertools.cycle(VICTIMS):
        listen(gate, heard, lambda: source.poll() is None, every_s)
        if source.poll() is not None:
            return killed
        if victim == "core":
            station.kill()
            station.start()
            killed["core"] += 1
        for child in psutil.Process(station.pid).children():
            if f"edge_inspector.{victim}" in " ".join(child.cmdline()):
                child.send_signal(signal.SIGKILL)
                killed[victim] += 1
    return killed


def listen(
    gate: VerdictConsumer, heard: list[tuple[Delivered, int]], go_on: Callable[[], bool], s: float
) -> None:
    """Take verdicts for so long."""
    give_up_ns = clock.now_ns() + int(s * 1e9)
    while clock.now_ns() < give_up_ns and go_on():
        delivered = gate.receive(timeout_ms=20)
        if delivered is not None:
            heard.append((delivered, clock.now_ns()))


def judge(folder: Path, heard: list[tuple[Delivered, int]]) -> dict[str, Any]:
    """The clients' records against the log."""
    log = Log(folder / "state")
    rows = [row.verdict for row in log.read(1, 10**9)]
    problems = log.verify().problems
    by_trigger: dict[int, list[Verdict]] = {}
    for verdict in rows:
        by_trigger.setdefault(verdict.trigger_id or 0, []).append(verdict)
    offered = {row["trigger_id"]: row for row in read(folder / "truth.jsonl")}
    settled = read(folder / "records.jsonl")
    told = [one for one in settled if one["vseq"] is not None]
    contradicted = [
        one for one in told if code(by_trigger[one["trigger_id"]][0]) != one["outcome"]
    ] + [one for one, _ in heard if rows[one.vseq - 1] != one.verdict]
    spent_ms = [
        (now_ns - offered[one.verdict.trigger_id]["offered_mono_ns"]) / 1e6
        for one, now_ns in heard
        if one.verdict.trigger_id in offered and not one.historical and one.verdict.regions
    ]
    return {
        "offered": len(offered),
        "settled": len(settled),
        "verdicts": len(rows),
        "heard": len(heard),
        "lost": sum(trigger_id not in by_trigger for trigger_id in offered),
        "doubled": sum(len(found) > 1 for found in by_trigger.values()),
        "contradicted": len(contradicted),
        "unheard": len({v.vseq for v in rows} - {one.vseq for one, _ in heard}),
        "log_problems": len(problems),
        "outcomes": dict(Counter(code(verdict) for verdict in rows)),
        "offer_to_verdict_ms": percentiles(spent_ms),
    }


def code(verdict: Verdict) -> str:
    """Outcome or reason."""
    return str((verdict.reason or verdict.outcome).value)


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    sys.exit(main())
