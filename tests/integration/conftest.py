"""A station on loopback with a tiny engine: 32x32 grey crops, all pixels 100 are good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomlkit

from edge_inspector import clock
from edge_inspector.bundle import open_engine
from edge_inspector.client import Listener, Publisher
from edge_inspector.crops import expand_region
from edge_inspector.recipe import Region
from edge_inspector.studies.harness import Station, free_port
from edge_inspector.wire.telemetry import VerdictNote

GOOD = np.full((32, 32), 100, np.uint8)
BAD = GOOD.copy()
BAD[4:12, 20:28] = 230


SHORT = "test_way_of_a_frame.py"
"""What also runs on the other interpreters: the rest is the same code for minutes more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and item.path.name != SHORT:
            item.add_marker(pytest.mark.slow)


class Bench:
    """A running station with its endpoints, and what the tests ask of it."""

    def __init__(self, station: Station, frames: str, verdicts: str, gate: str) -> None:
        self.station = station
        self.frames = frames
        self.verdicts = verdicts
        self.gate = gate
        self.folder = station.path.parent

    def collect(self, listener: Listener, count: int, seconds: float = 10.0) -> list[VerdictNote]:
        """The next `count` verdicts, fewer when they do not come in time."""
        give_up = clock.now_ns() + int(seconds * 1e9)
        notes: list[VerdictNote] = []
        while len(notes) < count and clock.now_ns() < give_up:
            note = listener.receive(timeout_ms=100)
            if note is not None:
                notes.append(note)
        return notes

    def log(self) -> str:
        return self.station.log_path.read_text(encoding="utf-8")


def write_recipe(folder: Path, engine: Path, changes: dict[str, Any] | None = None) -> Path:
    regions = [{"name": "whole", "rect": [0, 0, 32, 32], "engine": "tiny"}]
    recipe: dict[str, Any] = {
        "product": "tiny",
        "version": 3,
        "latency_budget_ms": 500.0,
        "engines": {"tiny": str(engine)},
        "regions": regions,
    } | (changes or {})
    recipe.setdefault(
        "calibration",
        {
            "threshold": 3.0,
            "overkill": 0.01,
            "promised_overkill": 0.01,
            "units": 300,
            "backend": "openvino",
            "engines": {
                name: open_engine(Path(folder)).digest for name, folder in recipe["engines"].items()
            },
            "regions": {
                roi.name: {"center": 0.0, "spread": 0.005}
                for region in recipe["regions"]
                for roi in expand_region(Region(**region))
            },
        },
    )
    path = folder / "recipe.toml"
    path.write_text(tomlkit.dumps(recipe), encoding="utf-8")
    return path


@pytest.fixture
def open_bench(tiny_engine: Path, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Starts stations; each is stopped at the end of the test."""
    started: list[Station] = []

    def start(
        *,
        source: str = "zmq-pull",
        reply: str = "ok",
        recipe: dict[str, Any] | None = None,
        kind: type[Station] = Station,
        **changes: Any,
    ) -> Bench:
        folder = tmp_path / f"station-{len(started)}"
        folder.mkdir()
        frames, verdicts, gate = (f"tcp://127.0.0.1:{free_port()}" for _ in range(3))
        first: dict[str, Any] = {"name": "line", "type": source, "endpoint": frames}
        sinks = [{"type": "zmq", "endpoint": verdicts}]
        if source == "assured":
            sinks.append({"type": "assured", "endpoint": gate})
            first |= {"peers": ["line", "one", "two"], "credit_msgs": 64}
        else:
            first["reply"] = reply
        settings: dict[str, Any] = {
            "station": "test",
            "recipe": str(write_recipe(folder, tiny_engine, recipe)),
            "sources": [first],
            "sinks": sinks,
            "frames": {"max_bytes": 1024 * 1024, "slots": 16},
            "archive": {"path": "rejects"},
        } | changes
        settings = {name: value for name, value in settings.items() if value is not None}
        station = kind(folder, settings)
        station.start()
        started.append(station)
        return Bench(station, frames, verdicts, gate)

    yield start
    for station in started:
        station.stop()


@pytest.fixture
def bench(open_bench: Callable[..., Bench]) -> Bench:
    return open_bench()


@pytest.fixture
def listener(bench: Bench) -> Iterator[Listener]:
    with Listener(bench.verdicts) as heard:
        assert subscribed(bench, heard)
        yield heard


@pytest.fixture
def publisher(bench: Bench) -> Iterator[Publisher]:
    with Publisher(bench.frames) as line:
        yield line


def subscribed(bench: Bench, listener: Listener, seconds: float = 5.0) -> bool:
    """Wait for the station's state, so that no verdict is missed by a late joiner."""
    give_up = clock.now_ns() + int(seconds * 1e9)
    while not listener.state and clock.now_ns() < give_up:
        listener.receive(timeout_ms=50)
    return bool(listener.state)
