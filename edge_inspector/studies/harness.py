"""
A station started as a user would start it, in a folder of its own: for the demo and the benches.

The daemon is a process of its own; its log lines are read for `ready`, the rest is kept in a file.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import tomlkit

from edge_inspector import clock
from edge_inspector.errors import Breakage
from edge_inspector.settings import process_environment

READY_S = 30.0
STOP_S = 15.0


def free_port() -> int:
    """A TCP port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Station:
    """
    `edge-inspector run` on a station file, started on entry and stopped on exit.

    `startup_s` is the time from start to ready; `log_path` holds what the daemon said.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "station.toml"
        self.log_path = folder / "daemon.log"
        self.path.write_text(tomlkit.dumps(dict(settings)), encoding="utf-8")
        self.startup_s = 0.0
        self._ready = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Station:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of core."""
        assert self._process is not None
        return self._process.pid

    def command(self) -> list[str]:
        """What the daemon is started with."""
        return [sys.executable, "-m", "edge_inspector.cli.main", "run", str(self.path)]

    def start(self) -> None:
        """Start and wait until it is ready; raises `Breakage` with the log's end when it is not."""
        self._ready.clear()
        started = clock.now_ns()
        self._process = subprocess.Popen(
            self.command(),
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=process_environment({}),
        )
        assert self._process.stderr is not None
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stderr,), daemon=True
        )
        self._reader.start()
        while not self._ready.wait(0.005):
            waited = (clock.now_ns() - started) / 1e9
            if self._process.poll() is not None or waited > READY_S:
                self.stop()
                raise Breakage(f"the daemon did not get ready in {waited:.1f} s: {self.log_tail()}")
        self.startup_s = (clock.now_ns() - started) / 1e9

    def stop(self) -> int:
        """Ask it to stop, wait; its exit status."""
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.terminate()
        try:
            status = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if self._reader is not None:
            self._reader.join(timeout=2)
        if process.stderr is not None:
            process.stderr.close()
        return status

    def kill(self) -> None:
        """Kill -9 of core; its children follow."""
        assert self._process is not None
        self._process.kill()
        self.stop()

    def log_tail(self, lines: int = 5) -> str:
        """The last lines of the daemon's log."""
        if not self.log_path.exists():
            return "it said nothing"
        return " | ".join(self.log_path.read_text(encoding="utf-8").splitlines()[-lines:])

    def _read(self, stream: TextIO) -> None:
        with self.log_path.open("a", encoding="utf-8") as log:
            for line in stream:
                log.write(line)
                log.flush()
                if '"ready"' in line and _event(line) == "ready":
                    self._ready.set()


def start_load(
    endpoint: str,
    truth: Path,
    units: int,
    rate_hz: float,
    *,
    seed: int,
    defect_rate: float,
    pool: int = 0,
    records: Path | None = None,
) -> subprocess.Popen[bytes]:
    """
    A simulated BGA line in a process of its own, an assured source named `line`.

    `truth` gets a line for each unit that it offers, `records` one for each that was settled.
    """
    options: dict[str, object] = {
        "--to": endpoint,
        "--kind": "assured",
        "--rate": rate_hz,
        "--units": units,
        "--seed": seed,
        "--defect-rate": defect_rate,
        "--truth": truth,
    }
    if pool:
        options["--pool"] = pool
    if records is not None:
        options["--records"] = records
    words = [str(word) for pair in options.items() for word in pair]
    return subprocess.Popen(
        [sys.executable, "-m", "edge_inspector.cli.main", "simulate", "bga", "--quiet", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=process_environment({"OMP_NUM_THREADS": "1"}),
    )


def _event(line: str) -> str:
    try:
        return str(json.loads(line).get("event", ""))
    except ValueError:
        return ""
