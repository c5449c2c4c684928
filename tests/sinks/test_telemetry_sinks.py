"""Telemetry over real sockets: what the sink says is what listeners hear."""

import socket
import threading

import pytest
import zmq

from edge_inspector import clock, settings
from edge_inspector.client import Listener
from edge_inspector.errors import Breakage, Misuse
from edge_inspector.importer import choose
from edge_inspector.records import Committed, FrameKey, Outcome, Verdict
from edge_inspector.sinks import SINKS
from edge_inspector.sinks.memory import MemorySink
from edge_inspector.sinks.zmq import ZmqSink


@pytest.fixture
def endpoint():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def sink(endpoint):
    opened = ZmqSink(settings.ZmqSink(type="zmq", endpoint=endpoint), "st1")
    yield opened
    opened.close()


def row(vseq, **keys):
    verdict = Verdict(
        unit_key=f"u:st1/A-{vseq}",
        station="st1",
        outcome=Outcome.PASS,
        frames=(FrameKey("line", "e", vseq),),
        recipe="board",
        unit_id=f"A-{vseq}",
    )
    return Committed(vseq=vseq, verdict=verdict, body=b"", chain=0, **keys)


def heard(sink, listener):
    """Publish states until the listener's subscription has come through."""
    for _ in range(200):
        sink.publish_state(0, "running")
        listener.receive(timeout_ms=20)
        if listener.state:
            return
    raise AssertionError("the listener hears nothing")


def test_verdicts_are_heard_in_order_and_whole(sink, endpoint):
    with Listener(endpoint) as listener:
        heard(sink, listener)
        for vseq in range(1, 501):
            sink.publish(row(vseq))
        verdicts = [listener.receive(timeout_ms=5000) for _ in range(500)]
        assert [verdict.vseq for verdict in verdicts if verdict] == list(range(1, 501))
        assert (listener.dropped, listener.head_vseq) == (0, 500)


def test_what_was_missed_is_counted(sink, endpoint):
    with Listener(endpoint) as listener:
        heard(sink, listener)
        for vseq in (7, 8, 11, 12, 20):
            sink.publish(row(vseq))
        for _ in range(5):
            assert listener.receive(timeout_ms=5000) is not None
        assert listener.dropped == len([9, 10]) + len(range(13, 20))


def test_a_verdict_said_again_is_no_loss(sink, endpoint):
    with Listener(endpoint) as listener:
        heard(sink, listener)
        for vseq, fresh in ((7, True), (8, True), (3, False), (9, True)):
            sink.publish(row(vseq, fresh=fresh))
        for _ in range(4):
            assert listener.receive(timeout_ms=5000) is not None
        assert listener.dropped == 0


def test_a_listener_subscribes_before_it_is_read(sink, endpoint):
    """What is published between opening and reading is heard."""
    with Listener(endpoint) as listener:
        threading.Event().wait(0.5)
        sink.publish(row(1))
        assert listener.receive(timeout_ms=5000) is not None


def test_a_log_that_began_anew_is_no_loss(sink, endpoint):
    with Listener(endpoint) as listener:
        heard(sink, listener)
        for vseq in (900, 901, 1, 2):
            sink.publish(row(vseq))
        for _ in range(4):
            assert listener.receive(timeout_ms=5000) is not None
        assert listener.dropped == 0


def test_state_is_heard_between_verdicts(sink, endpoint):
    with Listener(endpoint) as listener:
        heard(sink, listener)
        sink.publish_state(41, "stopping")
        sink.publish(row(42))
        verdict = listener.receive(timeout_ms=5000)
        assert verdict is not None
        assert verdict.unit_id == "A-42"
        assert listener.state == "stopping"


def test_a_listener_may_follow_one_station(sink, endpoint):
    with Listener(endpoint, station="st") as other, Listener(endpoint, station="st1") as listener:
        heard(sink, listener)
        sink.publish(row(1))
        assert listener.receive(timeout_ms=5000) is not None
        assert other.receive(timeout_ms=50) is None


def test_a_listener_iterates(sink, endpoint):
    with Listener(endpoint) as listener:
        heard(sink, listener)
        sink.publish(row(1))
        assert next(iter(listener)).vseq == 1


def test_a_quiet_daemon_is_none_after_the_timeout(endpoint):
    with Listener(endpoint) as listener:
        assert listener.receive(timeout_ms=20) is None


def test_publishing_to_nobody_and_to_the_slow_does_not_wait(sink, endpoint):
    with zmq.Context() as context, context.socket(zmq.SUB) as asleep:
        asleep.setsockopt(zmq.RCVHWM, 1)
        asleep.subscribe(b"")
        asleep.connect(endpoint)
        started_ns = clock.now_ns()
        for vseq in range(20_000):
            sink.publish(row(vseq))
    assert clock.now_ns() - started_ns < 20_000_000_000


def test_a_taken_port_is_a_breakage(sink, endpoint):
    with pytest.raises(Breakage, match=endpoint):
        ZmqSink(settings.ZmqSink(type="zmq", endpoint=endpoint), "st1")


def test_a_wildcard_is_refused():
    with pytest.raises(Misuse, match="wildcard"):
        ZmqSink(settings.ZmqSink(type="zmq", endpoint="tcp://0.0.0.0:5572"), "st1")


def test_the_memory_sink_keeps_rows():
    sink = choose(SINKS, "memory", "sink")(settings.MemorySink(type="memory"), "st1")
    assert isinstance(sink, MemorySink)
    for vseq in (1, 2):
        sink.publish(row(vseq))
    sink.close()
    assert [kept.vseq for kept in sink.rows] == [1, 2]
    assert sink.closed
