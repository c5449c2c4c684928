"""Whoever waits for an answer gets one, the kind that its source asked for, once."""

import msgspec
import pytest

from edge_inspector.docket import words as d
from edge_inspector.metrics import Metrics
from edge_inspector.outlet import Outlet
from edge_inspector.records import Committed, FrameHead, FrameKey, Outcome, Verdict
from edge_inspector.sinks.memory import MemorySink


def head(ticket, source="line"):
    return FrameHead(
        key=FrameKey(source, "e", ticket),
        station="s",
        camera="main",
        recipe="r",
        arrived_ns=0,
        time_zero_ns=0,
        ticket=ticket,
    )


def row():
    verdict = Verdict(unit_key="u:s/a", station="s", outcome=Outcome.PASS, frames=(), recipe="r")
    return Committed(vseq=7, verdict=verdict, body=b"", chain=0)


@pytest.fixture
def told():
    return []


@pytest.fixture
def metrics():
    return Metrics(50.0)


@pytest.fixture
def outlet(told, metrics):
    return Outlet(
        frozenset({"slow"}),
        metrics,
        lambda sent: told.extend((one.ticket, one.text) for one in sent.answers),
    )


def test_an_ok_source_hears_once_and_at_once(outlet, told):
    outlet.expect(head(1))
    outlet.reply(d.Reply(1, "ok"))
    outlet.flush()
    outlet.reply(d.Reply(1, "verdict", committed=row(), final=True))
    outlet.flush()
    assert told == [(1, "OK")]


def test_a_refused_frame_says_why(outlet, told):
    outlet.expect(head(1))
    outlet.reply(d.Reply(1, "no", "shed"))
    outlet.flush()
    assert told == [(1, "NO shed")]


def test_a_verdict_source_hears_the_verdict_only(outlet, told):
    outlet.expect(head(2, "slow"))
    outlet.reply(d.Reply(2, "ok"))
    outlet.flush()
    assert told == []
    outlet.reply(d.Reply(2, "verdict", committed=row(), final=True))
    outlet.flush()
    ((ticket, text),) = told
    assert ticket == 2
    assert '"vseq":7' in text


def test_a_frame_without_a_ticket_and_a_forgotten_one_get_no_answer(outlet, told):
    outlet.expect(head(0))
    outlet.reply(d.Reply(0, "ok"))
    outlet.expect(head(3))
    outlet.forget_tickets()
    outlet.reply(d.Reply(3, "ok"))
    outlet.flush()
    assert told == []


def test_an_assured_source_hears_of_a_verdict_alone_where_it_came_with_the_accept_row(metrics):
    kinds = []
    outlet = Outlet(frozenset(), metrics, lambda sent: kinds.append([a.kind for a in sent.answers]))
    for ticket in range(1, 11):
        outlet.expect(msgspec.structs.replace(head(ticket), assured=True))
        outlet.reply(d.Reply(ticket, "ok"))
    outlet.reply(d.Reply(1, "verdict", committed=row(), final=True))
    outlet.flush()
    outlet.reply(d.Reply(2, "verdict", committed=row(), final=True))
    outlet.flush()
    outlet.flush()
    assert kinds == [["settled", *["accepted"] * 7], ["accepted"] * 2, ["settled"]]


def test_verdicts_and_states_reach_every_sink_and_notes_are_counted(outlet):
    sinks = [MemorySink(), MemorySink()]
    outlet.sinks = sinks
    outlet.publish(row())
    outlet.publish_state(7, "ready")
    outlet.remark(d.Note("u:s/a", "came after the verdict", "late"))
    outlet.close()
    assert [sink.rows[0].vseq for sink in sinks] == [7, 7]
    assert [sink.states for sink in sinks] == [[(7, "ready")]] * 2
    assert all(sink.closed for sink in sinks)
    assert outlet.notes == {"late": 1}
