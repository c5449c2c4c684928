"""What `check` says of the relays of a discrete sink."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from edge_inspector.errors import BackendMissing
from edge_inspector.gateways.coupler import Coupler
from edge_inspector.settings import DiscreteSink
from edge_inspector.studies.findings import Finding, Station

PATIENCE_S = 1.0


def relays(station: Station) -> Iterator[Finding]:
    """Whether each coupler can be reached, and whether verdicts come before their units do."""
    for sink in station.settings.sinks:
        if isinstance(sink, DiscreteSink):
            yield _reached(sink)
            yield _in_time(sink, station.recipe.latency_budget_ms)


def _reached(sink: DiscreteSink) -> Finding:
    place = f"{sink.host}:{sink.port}"
    try:
        Coupler(sink).close()
        socket.create_connection((sink.host, sink.port), PATIENCE_S).close()
    except BackendMissing as error:
        return Finding("FAIL", "relays", f"{error}; pip install 'edge-inspector[modbus]'")
    except OSError as error:
        detail = f"coupler {place} does not answer ({error}); every part is rejected until it does"
        return Finding("WARN", "relays", detail)
    return Finding("OK", "relays", f"coupler {place} answers; nothing was written to it")


def _in_time(sink: DiscreteSink, budget_ms: float) -> Finding:
    gate = f"the gate is {sink.delay_ms:g} ms behind the trigger"
    if sink.delay_ms < budget_ms:
        detail = (
            f"{gate}, the latency budget is {budget_ms:g} ms: parts whose verdict comes between "
            "are rejected; set the budget to what the gate allows, or move the gate"
        )
        return Finding("WARN", "relays", detail)
    return Finding(
        "OK", "relays", f"{gate}, the latency budget of {budget_ms:g} ms is over by then"
    )
