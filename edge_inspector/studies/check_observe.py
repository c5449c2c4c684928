"""What `check` says of observing: what is driven, whom it is compared with, and who only watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from edge_inspector.errors import EdgeInspectorError
from edge_inspector.observe.poller import Registers
from edge_inspector.observe.quiet import told
from edge_inspector.recipe import load_recipe
from edge_inspector.studies.findings import Finding, Station


def observing(station: Station) -> Iterator[Finding]:
    """Whether anything is driven, and by whom; said as a warning, since a line may expect more."""
    meaning = told(station.settings, station.recipe)
    if meaning:
        yield Finding("WARN", "observe", f"{meaning}; 'edge-inspector promote' ends it")


def incumbent(station: Station) -> Iterator[Finding]:
    """Whether the controller that knows the incumbent's verdicts answers."""
    asked = station.settings.incumbent
    if asked is None:
        return
    place = f"{asked.host}:{asked.port}"
    try:
        with closing(Registers(asked)) as registers:
            registers.read()
    except EdgeInspectorError as error:
        detail = f"{place}: {error}; its verdicts will be missing until it answers"
        yield Finding("WARN", "incumbent", detail)
        return
    yield Finding("OK", "incumbent", f"{place} answers from register {registers.first} on")


def shadow(station: Station) -> Iterator[Finding]:
    """Whether the recipe that watches can be read, and sees the cameras that this one judges."""
    path = station.recipe.shadow
    if path is None:
        return
    try:
        cameras = load_recipe(path).cameras
    except EdgeInspectorError as error:
        yield Finding("FAIL", "shadow", str(error))
        return
    if blind := [camera for camera in station.recipe.cameras if camera not in cameras]:
        detail = f"{path} has no region of camera '{blind[0]}'; it knows {', '.join(cameras)}"
        yield Finding("WARN", "shadow", detail)
    else:
        yield Finding("OK", "shadow", f"{path} judges beside, and drives nothing")
