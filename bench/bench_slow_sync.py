"""
A station whose every sync of the disk is late, while other work keeps all processors busy.

    python -m bench.bench_slow_sync --json bench/results/2-core-epyc.jsonl

The line is that of `edge-inspector bench pipeline`. `slow_sync.c` is compiled and preloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_inspector.cli.bench import RECIPE
from edge_inspector.errors import Breakage
from edge_inspector.studies import bench_pipeline
from edge_inspector.studies.facts import facts

SOURCE = Path(__file__).with_name("slow_sync.c")
TOLD = ("units", "rate_hz", "lost", "doubled", "missed", "late_passes", "stale", "shed", "total_ms")


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep; 1 where a unit was passed late."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="its budget is the deadline")
    parser.add_argument("--units", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--late-ms", type=int, default=30)
    parser.add_argument("--busy", type=int, default=os.cpu_count(), help="processes beside it")
    parser.add_argument("--json", type=Path, metavar="OUT", help="append one JSON line to OUT")
    args = parser.parse_args(given)
    with tempfile.TemporaryDirectory() as name, busy(args.busy), late_syncs(Path(name), args):
        run = bench_pipeline.run(
            Path(name) / "run", args.recipe, units=args.units, rate_hz=args.rate
        )
    commit_ms = run["stages_ms"]["commit"]
    if commit_ms["p50"] < args.late_ms / 2:
        raise Breakage(
            f"a commit took {commit_ms['p50']} ms, so that no sync was late; is it static?"
        )
    report = {
        "bench": "slow sync",
        **{key: run[key] for key in TOLD},
        "commit_ms": commit_ms,
        "late_ms": args.late_ms,
        "busy": args.busy,
        **facts(),
    }
    if args.json is not None:
        with args.json.open("a", encoding="utf-8") as out:
            out.write(json.dumps(report) + "\n")
    print(json.dumps(report))
    return 1 if run["late_passes"] else 0


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Processes that never wait."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@contextmanager
def late_syncs(folder: Path, args: argparse.Namespace) -> Iterator[None]:
    """Every process that is started meanwhile syncs late."""
    library = folder / "slow_sync.so"
    command = ["cc", "-shared", "-fPIC", "-O2", str(SOURCE), "-o", str(library), "-ldl"]
    subprocess.run(command, check=True)
    os.environ |= {"LD_PRELOAD": str(library), "SYNC_LATE_MS": str(args.late_ms)}
    try:
        yield
    finally:
        del os.environ["LD_PRELOAD"], os.environ["SYNC_LATE_MS"]


if __name__ == "__main__":
    sys.exit(main())
