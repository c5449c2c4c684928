"""What `check` says of Modbus gateways."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec

from edge_inspector.settings import AssuredSource, ModbusSink
from edge_inspector.studies.findings import Finding, Station


def gateways(station: Station) -> Iterator[Finding]:
    """Whether each gateway can listen, and whether its controller can match the units."""
    sinks = [sink for sink in station.settings.sinks if isinstance(sink, ModbusSink)]
    for sink in sinks:
        yield _listens(sink)
    if sinks and not all(isinstance(one, AssuredSource) for one in station.settings.sources):
        detail = (
            "a controller on Modbus knows a unit by its trigger_id alone; one whose frames carry "
            "none is rejected, so make sure that each frame has one"
        )
        yield Finding("WARN", "modbus", detail)


def _listens(sink: ModbusSink) -> Finding:
    place = f"{sink.host}:{sink.port}"
    if find_spec("pymodbus") is None:
        detail = "needs the package 'pymodbus'; pip install 'edge-inspector[modbus]'"
        return Finding("FAIL", "modbus", detail)
    kind = socket.AF_INET6 if sink.host.version == 6 else socket.AF_INET
    with closing(socket.socket(kind)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(sink.host), sink.port))
        except OSError as error:
            detail = f"{place} cannot be bound: {error.strerror}; give it another port or host"
            return Finding("FAIL", "modbus", detail)
    writer = f"only {sink.writer} may write" if sink.writer else "anyone on this box may write"
    return Finding("OK", "modbus", f"{place} can be bound; {writer}")
