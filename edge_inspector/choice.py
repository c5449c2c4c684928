"""`auto`: the fastest runner of this box that scores an engine's challenge crops as training did."""

from __future__ import annotations

import fcntl
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import msgspec

from edge_inspector import clock, parity
from edge_inspector.backends import REFERENCE, open_first, precision_of
from edge_inspector.backends.driver import probe
from edge_inspector.bundle import Engine
from edge_inspector.errors import BackendMissing, Breakage, EngineRefused, Misuse, Uninspectable
from edge_inspector.protocols import Session
from edge_inspector.records import Pixels

AUTO = "auto"
RUNTIMES = ("openvino", "onnxruntime", "tensorrt", "tensorrt_rtx")
"""Packages with whose versions a choice ends, and backends that it is made among."""
MOST_CROPS = 16
"""In one timed run; more of them change no runner's place."""
WARM_UP, ROUNDS, LEAST_ROUNDS = 3, 30, 3
LONGEST_NS = 2_000_000_000
"""Of timing, as long as every runner had its least rounds."""
SHOWN = 240
"""Characters of why a runner does not serve."""
_UNFIT = (Breakage, EngineRefused, Uninspectable)


def silent(sentence: str) -> None:
    """Hear nothing."""


@dataclass(frozen=True, slots=True)
class Runtimes:
    """Where engines run: runners in order of preference or `auto`, and what they may use."""

    backends: Sequence[str] = ("openvino", "onnxruntime")
    threads: int = 1
    store: Path | None = None
    """The station's folder, for choices and what runtimes compile; None: nothing is kept."""
    tell: Callable[[str], None] = silent
    """Hears of every choice that was made anew, and why."""

    @property
    def cache(self) -> Path | None:
        """Where a runtime keeps what it compiled."""
        return self.store / "compiled" if self.store is not None else None


class Choice(msgspec.Struct, frozen=True):
    """What was measured: the runner, ms per run of each that agrees, why others do not serve."""

    runner: str
    times_ms: dict[str, float]
    refused: dict[str, str]
    key: dict[str, Any]
    """What it was measured on; any change ends the choice."""

    def __str__(self) -> str:
        crops = self.key["crops"]
        times = ", ".join(f"{name} {spent:.3g}" for name, spent in self.times_ms.items())
        told = [f"{self.runner} is the fastest of {times} ms for {crops} crop{'s' * (crops > 1)}"]
        told += [f"{name} does not serve: {why}" for name, why in self.refused.items()]
        return "; ".join(told)


def open_runner(
    engine: Engine, runtimes: Runtimes, *, crops: int = 1, precision: str | None = None
) -> tuple[str, Session]:
    """
    The runner that serves an engine here and its session, challenged.

    `auto` is measured with `crops` a run, among the runners of one precision where it is given.
    Raises `EngineRefused` when none agrees with training, `BackendMissing` when none is installed.
    """
    if AUTO not in runtimes.backends:
        return _challenged(engine, runtimes.backends, runtimes)
    if len(runtimes.backends) > 1:
        raise Misuse(f"backends {', '.join(runtimes.backends)}: 'auto' stands alone")
    names = candidates(engine, precision)
    key = _key(engine, names, runtimes.threads, min(crops, MOST_CROPS))
    with _notes(runtimes.store, key) as notes:
        known, why = _known(notes, key)
        if known is not None:
            try:
                return _challenged(engine, [known], runtimes)
            except _UNFIT as error:
                why = f"{known} serves no more: {error}"
        choice, session = _measured(engine, names, runtimes, key)
        told = f"engine {engine.title}: {why}; {choice}{_write(notes, choice)}"
    runtimes.tell(told)
    return choice.runner, session


def candidates(
    engine: Engine, precision: str | None = None, runtimes: Sequence[str] = RUNTIMES
) -> list[str]:
    """All runners of an engine, or those of one precision; the reference's where it has no other."""
    if precision is not None and precision not in engine.models:
        precision = REFERENCE
    return [
        name if known == REFERENCE else f"{name}:{known}"
        for known in engine.models
        if precision in (None, known)
        for name in runtimes
    ]


def open_all(
    engine: Engine, names: Sequence[str], runtimes: Runtimes, batch: Pixels, stack: ExitStack
) -> tuple[dict[str, Session], dict[str, Exception]]:
    """
    Every runner that opens, agrees with training and runs `batch`, and why others do not.

    `stack` closes them. Raises `EngineRefused` where there is none, `BackendMissing` where none of
    them is installed.
    """
    opened: dict[str, Session] = {}
    refused: dict[str, Exception] = {}
    for name in names:
        try:
            _, session = _challenged(engine, [name], runtimes)
            stack.callback(session.close)
            session.run(batch)
            opened[name] = session
        except _UNFIT as error:
            refused[name] = error
    if opened:
        return opened, refused
    told = "; ".join(f"{name}: {error}" for name, error in refused.items())
    if all(isinstance(error, BackendMissing) for error in refused.values()):
        raise BackendMissing(f"no runtime is installed that could run {engine.title}: {told}")
    raise EngineRefused(f"no runtime of this box scores {engine.title} as training did: {told}")


def in_turn(
    runs: Mapping[str, Callable[[], object]], rounds: int, longest_ns: int | None = None
) -> dict[str, list[float]]:
    """How long each run takes, ms, in turn, so that other load falls on all alike."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    begun = clock.now_ns()
    for number in range(WARM_UP + rounds):
        late = longest_ns is not None and clock.now_ns() - begun > longest_ns
        if late and number >= WARM_UP + LEAST_ROUNDS:
            break
        for name, run in list(runs.items())[:: -1 if number % 2 else 1]:
            started = clock.now_ns()
            run()
            if number >= WARM_UP:
                spent[name].append((clock.now_ns() - started) / clock.NS_PER_MS)
    return spent


def processor() -> str:
    """The processor's model."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _challenged(engine: Engine, names: Sequence[str], runtimes: Runtimes) -> tuple[str, Session]:
    runner, session = open_first(names, engine.models, runtimes.threads, runtimes.cache)
    with ExitStack() as stack:
        stack.callback(session.close)
        parity.challenge(session, engine, precision_of(runner)[1])
        stack.pop_all()
    return runner, session


def _measured(
    engine: Engine, names: Sequence[str], runtimes: Runtimes, key: dict[str, Any]
) -> tuple[Choice, Session]:
    batch = parity.noisy(engine, key["crops"])
    with ExitStack() as stack:
        opened, refused = open_all(engine, names, runtimes, batch, stack)
        runs = {name: partial(session.run, batch) for name, session in opened.items()}
        spent = in_turn(runs, ROUNDS, LONGEST_NS)
        times_ms = {name: round(statistics.median(spent[name]), 4) for name in spent}
        runner = min(times_ms, key=lambda name: times_ms[name])
        stack.pop_all()
    for name in opened.keys() - {runner}:
        opened[name].close()
    told = {name: str(error).partition("\n")[0][:SHOWN] for name, error in refused.items()}
    return Choice(runner, times_ms, told, key), opened[runner]


def _key(engine: Engine, names: Sequence[str], threads: int, crops: int) -> dict[str, Any]:
    versions = {}
    for package in RUNTIMES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    try:
        device = probe()
        gpu = f"{device.name}, driver {device.driver}"
    except BackendMissing:
        gpu = ""
    return {
        "engine": engine.digest,
        "runners": list(names),
        "versions": versions,
        "processor": processor(),
        "gpu": gpu,
        "threads": threads,
        "crops": crops,
    }


@contextmanager
def _notes(store: Path | None, key: dict[str, Any]) -> Iterator[IO[bytes] | str]:
    """The file of a choice, which one process at a time has; or why there is none."""
    if store is None:
        yield "there is no folder to keep a choice in"
        return
    name = f"{key['engine'][:16]}-{key['threads']}x{key['crops']}.json"
    path = store / "runners" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        notes = path.open("a+b", buffering=0)
    except OSError as error:
        yield f"no choice can be kept in {path}: {error.strerror}"
        return
    with notes:
        fcntl.flock(notes, fcntl.LOCK_EX)
        yield notes


def _known(notes: IO[bytes] | str, key: dict[str, Any]) -> tuple[str | None, str]:
    """The runner that was chosen for `key`, or why one is to be chosen now."""
    if isinstance(notes, str):
        return None, notes
    notes.seek(0)
    text = notes.read()
    if not text:
        return None, "nothing was measured yet"
    try:
        choice = msgspec.json.decode(text, type=Choice)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None, "what was measured before is damaged"
    if changed := [name for name in key if choice.key.get(name) != key[name]]:
        return None, f"changed since it was measured: {', '.join(changed)}"
    if choice.runner not in key["runners"]:
        return None, f"what was measured before names '{choice.runner}'"
    return choice.runner, ""


def _write(notes: IO[bytes] | str, choice: Choice) -> str:
    """Keep a choice; what to tell of it when it cannot be kept."""
    if isinstance(notes, str):
        return ""
    try:
        notes.truncate(0)
        notes.write(msgspec.json.format(msgspec.json.encode(choice)))
    except OSError as error:
        return f"; it is not kept: {error.strerror}"
    return ""
