"""A line around a station under test: clients, controllers, and what their own records must show."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import cv2
import psutil

from edge_inspector import clock
from edge_inspector.client import VerdictConsumer
from edge_inspector.outbox import Log
from edge_inspector.outbox.log import NAME
from edge_inspector.records import Outcome
from edge_inspector.settings import process_environment

PASS, FAIL = Outcome.PASS.value, Outcome.FAIL.value


def write_units(folder, good, bad, every=5):
    """Pictures for `simulate FOLDER`: one in `every` shows a defect."""
    folder.mkdir()
    for number in range(every):
        name = f"{number}-{'bad' if number == 0 else 'good'}.png"
        cv2.imwrite(str(folder / name), bad if number == 0 else good)
    return folder


class Client:
    """`simulate` as a user would run it, again and again: trigger ids go on where it was killed."""

    def __init__(self, folder, units, endpoint, rate_hz, *, budget_ms=500.0):
        self.folder, self.units, self.endpoint = folder, units, endpoint
        self.rate_hz, self.budget_ms = rate_hz, budget_ms
        self.next = 1
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, units=1_000_000):
        self.starts += 1
        options = {
            "--to": self.endpoint, "--kind": "assured", "--rate": self.rate_hz, "--units": units,
            "--first": self.next, "--budget-ms": self.budget_ms,
            "--truth": self.folder / f"truth-{self.starts}.jsonl",
            "--records": self.folder / f"records-{self.starts}.jsonl",
        }  # fmt: skip
        words = [str(word) for pair in options.items() for word in pair]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge_inspector.cli.main", "simulate", str(self.units), *words],
            stdout=subprocess.DEVNULL,
            env=process_environment({}),
        )
        return self

    def kill(self):
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.next = max(self.offered(), default=0) + 1

    def finish(self, units=20):
        """The last units, offered by a client that stays until all are settled."""
        self.kill()
        process = self.start(units).process
        assert process is not None
        return process.wait(60)

    def _rows(self, what):
        for path in sorted(self.folder.glob(f"{what}-*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.endswith("}"):
                    yield json.loads(line)

    def offered(self):
        """Trigger id -> whether the unit is bad, of all that any client offered."""
        return {row["trigger_id"]: "bad" in row["scene"] for row in self._rows("truth")}

    def settled(self):
        """(trigger id, vseq, outcome) of all that any client heard."""
        return [(r["trigger_id"], r["vseq"], r["outcome"]) for r in self._rows("records")]


class Controller(threading.Thread):
    """The reference line controller; keeps every verdict that came, and what it would act on."""

    def __init__(self, endpoint, name="gate", **keys):
        super().__init__(daemon=True)
        self.heard = []
        self.acted = []
        self.stopping = threading.Event()
        self.consumer = VerdictConsumer(endpoint, consumer=name, **keys)

    def run(self):
        while not self.stopping.is_set():
            delivered = self.consumer.receive(timeout_ms=20)
            if delivered is not None:
                self.heard.append(delivered)
                if self.consumer.lets_through(delivered, unit_key=delivered.verdict.unit_key):
                    self.acted.append(delivered)

    def until(self, vseq, seconds=10.0):
        """Wait until all verdicts up to this one were heard."""
        give_up_ns = clock.now_ns() + int(seconds * 1e9)
        while self.consumer.upto < vseq and clock.now_ns() < give_up_ns:
            threading.Event().wait(0.02)
        return self.consumer.upto

    def close(self):
        self.stopping.set()
        self.join(5)
        self.consumer.close()


def child(pid, module):
    """The child process of core that runs a module, None while there is none."""
    for process in psutil.Process(pid).children():
        try:
            if module in " ".join(process.cmdline()):
                return process
        except psutil.Error:
            continue
    return None


def kill_child(bench, module):
    """True when it was there and was killed."""
    process = child(bench.station.pid, f"edge_inspector.{module}")
    if process is None:
        return False
    process.send_signal(signal.SIGKILL)
    return True


def accepted_unjudged(folder: Path) -> int:
    """Accept rows of a log, which are of units without a verdict."""
    connection = apsw.Connection(str(folder / "state" / NAME))
    try:
        return int(connection.execute("SELECT count(*) FROM accepted").get)
    finally:
        connection.close()


def code(verdict):
    return (verdict.reason or verdict.outcome).value


def check_log(folder):
    """The log is whole: numbers without a gap, chain, one verdict for each unit."""
    log = Log(folder / "state")
    rows = log.read(1, 10**9)
    assert log.verify().problems == ()
    assert [row.vseq for row in rows] == list(range(1, len(rows) + 1))
    assert len({row.verdict.unit_key for row in rows}) == len(rows)
    return rows


def check_offered(rows, offered, settled):
    """Nothing offered is lost, nothing heard is contradicted, no bad unit passed; the wrong ones."""
    by_trigger = {row.verdict.trigger_id: row for row in rows if row.verdict.trigger_id}
    assert len(by_trigger) == sum(row.verdict.trigger_id is not None for row in rows)
    assert set(offered) <= set(by_trigger), sorted(set(offered) - set(by_trigger))[:10]
    for trigger_id, vseq, outcome in settled:
        row = by_trigger[trigger_id]
        assert vseq in (None, row.vseq)
        assert outcome in (None, code(row.verdict))
    return [
        (trigger_id, code(by_trigger[trigger_id].verdict))
        for trigger_id, bad in offered.items()
        if code(by_trigger[trigger_id].verdict) == (PASS if bad else FAIL)
    ]


def check_heard(rows, controller):
    """The controller has every verdict once, as it is in the log; acted on passes only."""
    heard = {delivered.vseq: delivered for delivered in controller.heard}
    assert len(heard) == len(controller.heard), "a verdict was handed out twice"
    assert sorted(heard) == [row.vseq for row in rows]
    for row in rows:
        assert heard[row.vseq].verdict == row.verdict
    assert all(code(delivered.verdict) == PASS for delivered in controller.acted)
