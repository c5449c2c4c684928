"""
Fuzzes the decoders, two at a time: `python tests/fuzz/run.py [--seconds 60] [--corpus DIR] [NAME ...]`.

Starts from the golden vectors. What it finds stays in DIR where one is given, crashes too; a crash
becomes a golden vector.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "wire1"
NAMES = ("assured", "plain", "telemetry")
AT_ONCE = 2
MAX_BYTES = 20_000
"""More than any limit of metadata."""
MEMORY_MB = 512


def fuzz(name: str, seconds: int, folder: Path) -> tuple[int, int, str]:
    """Exit status, executions and the end of the output of one target."""
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    tier = name if name in NAMES else "assured"
    for path in GOLDEN.glob("*.json"):
        if json.loads(path.read_text())["tier"] == tier:
            shutil.copy(path.with_suffix(".bin"), corpus)
    command = [
        *("sh", "-c", '"$@"; exit $?', "sh"),  # the peak memory of a child starts with its parent's
        *(sys.executable, "-m", "tests.fuzz.target", name),
        *(f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", f"-rss_limit_mb={MEMORY_MB}"),
        *("-seed=1", "-keep_seed=1", "-timeout=5", "-print_final_stats=1"),
        f"-artifact_prefix={corpus}/",
        str(corpus),
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds + 120
    )
    said = done.stdout + done.stderr
    runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    return done.returncode, int(runs[1]) if runs else 0, said[-3000:]


def main(words: list[str]) -> int:
    """Run the targets; 1 where one of them found something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(AT_ONCE) as pool:
        folder = (given.corpus or Path(scratch)).resolve()
        found = pool.map(lambda name: fuzz(name, given.seconds, folder), given.names)
        failed = 0
        for name, (status, runs, said) in zip(given.names, found, strict=True):
            print(f"{name}: {runs} executions in {given.seconds} s, exit status {status}")
            if status:
                failed = 1
                print(said)
    return failed


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
