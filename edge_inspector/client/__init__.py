"""
Reference source and reference line controller, for programs beside the daemon.

PLAIN tier, for lines that publish already and screens that watch:

    with Publisher("tcp://127.0.0.1:5574") as line:
        line.send(image, unit_id="A-0001", trigger_id=1)

    with Listener("tcp://127.0.0.1:5572") as verdicts:
        for verdict in verdicts:
            print(verdict.unit_id, verdict.outcome.value, verdicts.dropped)
"""

from edge_inspector.client.aio_consumer import AsyncVerdictConsumer
from edge_inspector.client.aio_source import AsyncFrameSource
from edge_inspector.client.delivered import Counts, Delivered
from edge_inspector.client.frame_source import FrameSource
from edge_inspector.client.frames import Settlement
from edge_inspector.client.plain import Listener, Publisher
from edge_inspector.client.verdict_consumer import VerdictConsumer

__all__ = [
    "AsyncFrameSource",
    "AsyncVerdictConsumer",
    "Counts",
    "Delivered",
    "FrameSource",
    "Listener",
    "Publisher",
    "Settlement",
    "VerdictConsumer",
]
