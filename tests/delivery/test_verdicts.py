"""Delivery as line controllers see it: every verdict, in order, from where they stopped."""

import pytest

from edge_inspector import clock
from edge_inspector.channel import Row
from edge_inspector.errors import WireError
from edge_inspector.wire.assured import Replay, Truncated, verify_verdict
from edge_inspector.wire.codes import Flag, Type

MS = clock.NS_PER_MS


def verify(messages, chain):
    """The verdicts, each in its place of the log's chain."""
    verdicts = []
    for message in messages:
        verdicts.append(verify_verdict(message, chain))
        chain = message.header.chain
    return verdicts


def test_live_verdicts_come_in_order_as_they_were_committed(core, connect):
    plc = connect()
    said = plc.subscribe()
    assert (said.head, said.oldest, said.acked) == (0, 1, 0)
    assert (said.live_from, said.live_chain, said.history_from) == (1, 0, 1)
    rows = core.commit(200)
    plc.until(lambda: len(plc.live) == 200)
    assert verify(plc.live, said.live_chain) == [row.verdict for row in rows]
    assert all(message.header.flags == 0 for message in plc.live)
    assert all(m.header.t_mono_ns > r.committed_ns for m, r in zip(plc.live, rows, strict=True))


def test_a_damaged_verdict_would_be_seen(core, connect):
    plc = connect()
    said = plc.subscribe()
    core.commit(2)
    plc.until(lambda: len(plc.live) == 2)
    with pytest.raises(WireError, match="chain value"):
        verify(plc.live[1:], said.live_chain)


def test_rows_that_core_did_not_say_come_from_the_log(core, connect):
    plc = connect()
    plc.subscribe()
    rows = core.store.commit(10)
    for row in (rows[2], rows[7]):
        core.line.send(Row(row.vseq, row.body, row.chain))
    plc.until(lambda: len(plc.live) == 8)
    core.pulse()
    plc.until(lambda: len(plc.live) == 10)
    assert plc.numbers("live") == list(range(1, 11))


def test_history_and_live_lanes_meet_without_a_gap(core, connect):
    core.commit(300)
    plc = connect()
    said = plc.subscribe()
    assert (said.history_from, said.live_from) == (1, 301)
    core.commit(20)
    plc.until(lambda: len(plc.history) == 300 and len(plc.live) == 20)
    verify(plc.history, said.history_chain)
    verify(plc.live, said.live_chain)
    assert plc.numbers("history") == list(range(1, 301))
    assert plc.numbers("live") == list(range(301, 321))
    assert all(message.header.flags == Flag.HISTORICAL for message in plc.history)


def test_one_lane_is_strictly_in_order(start_delivery, connect):
    core = start_delivery(history_hz=2000)
    core.commit(600)
    plc = connect()
    plc.subscribe(lanes=1)
    core.commit(5)
    plc.until(lambda: plc.history)
    assert not plc.live
    plc.until(lambda: len(plc.live) == 5)
    assert plc.numbers("history") == list(range(1, 601))
    assert plc.numbers("live") == list(range(601, 606))


def test_a_consumer_begins_where_it_asks_to(core, connect):
    core.commit(5)
    wishes = {0: [1, 2, 3, 4, 5], 4: [4, 5], 6: [], 99: [], "live": []}
    plcs = {start: connect(f"plc-{start}") for start in wishes}
    for start, plc in plcs.items():
        said = plc.subscribe(start)
        assert (said.history_from, said.live_from) == (6 - len(wishes[start]), 6)
    core.commit()
    for start, plc in plcs.items():
        plc.until(lambda plc=plc: plc.live)
        plc.rest(quiet_ms=50)
        assert (plc.numbers("history"), plc.numbers("live")) == (wishes[start], [6])


@pytest.mark.slow
def test_a_backlog_of_50000_comes_at_5000_a_second_while_live_verdicts_overtake_it(core, connect):
    core.store.commit(50_000)
    plc = connect()
    assert plc.subscribe().live_from == 50_001
    said_ns: dict[int, int] = {}

    def step():
        if len(plc.history) % 256 == 0 and plc.history:
            plc.ack(plc.history[-1].header.seq, plc.live[-1].header.seq if plc.live else 0)
        if not said_ns or clock.now_ns() - max(said_ns.values()) > 20 * MS:
            (row,) = core.store.commit()
            said_ns[row.vseq] = clock.now_ns()
            core.line.send(Row(row.vseq, row.body, row.chain))
        return len(plc.history) == 50_000

    started_ns = clock.now_ns()
    plc.until(step, timeout_ms=30_000)
    rate = 50_000 / ((clock.now_ns() - started_ns) / 1e9)
    plc.rest()
    assert rate >= 5000
    assert plc.numbers("history") == list(range(1, 50_001))
    assert plc.numbers("live") == list(said_ns)
    sent_ms = sorted((m.header.t_mono_ns - said_ns[m.header.seq]) / MS for m in plc.live)
    assert len(sent_ms) > 150
    assert sent_ms[len(sent_ms) // 2] < 2
    print(f"{rate:.0f}/s; live sent after {sent_ms[len(sent_ms) // 2]:.2f} ms p50, ", end="")
    print(f"{sent_ms[len(sent_ms) * 99 // 100]:.2f} ms p99 of {len(sent_ms)}")


def test_history_keeps_the_rate_that_the_station_gives_it(start_delivery, connect):
    core = start_delivery(history_hz=500)
    core.store.commit(300)
    plc = connect()
    started_ns = clock.now_ns()
    plc.subscribe()
    plc.until(lambda: len(plc.history) == 300)
    assert (clock.now_ns() - started_ns) / 1e9 > 290 / 500


def test_history_waits_while_a_unit_is_in_flight_but_keeps_its_rate(start_delivery, connect):
    core = start_delivery(history_hz=2000)
    core.store.commit(1000)
    core.gauge.say(True)
    plc = connect()
    started_ns = clock.now_ns()
    plc.subscribe()
    plc.until(lambda: plc.history)
    assert clock.now_ns() - started_ns > 30 * MS  # of 100, but for what it was owed at first
    plc.until(lambda: len(plc.history) == 500)
    core.gauge.say(False)
    plc.until(lambda: len(plc.history) == 1000)
    assert (clock.now_ns() - started_ns) / 1e9 < 1.5 * 1000 / 2000


def test_two_that_are_behind_share_the_history_rate(start_delivery, connect):
    core = start_delivery(history_hz=2000)
    core.store.commit(600)
    first, second = connect("one"), connect("two")
    first.subscribe()
    second.subscribe()
    first.until(lambda: len(first.history) > 300)
    second.rest(quiet_ms=1)
    assert len(second.history) > 100


def test_a_consumer_that_comes_back_gets_what_follows_its_cursor(core, connect):
    core.commit(20)
    plc = connect()
    plc.subscribe()
    plc.until(lambda: len(plc.history) == 20)
    plc.ack(12)
    core.until_acked("plc", 12)
    again = connect()
    said = again.subscribe()
    assert (said.acked, said.history_from) == (12, 13)
    again.until(lambda: len(again.history) == 8)
    verify(again.history, said.history_chain)
    assert again.numbers("history") == list(range(13, 21))


def test_the_cursor_outlives_the_process(start_delivery, connect):
    core = start_delivery()
    core.commit(20)
    plc = connect()
    plc.subscribe()
    plc.until(lambda: len(plc.history) == 20)
    plc.ack(15)
    core.until_acked("plc", 15)
    core.kill()
    core = start_delivery()
    core.commit()
    said = connect().subscribe()
    assert (said.acked, said.history_from, said.live_from) == (15, 16, 22)


def test_core_hears_of_a_cursor_20_times_a_second_at_most(core, connect):
    core.commit(900)
    plc = connect()
    plc.subscribe()
    plc.until(lambda: len(plc.history) == 900)
    started_ns = clock.now_ns()
    for upto in range(1, 901):
        plc.ack(upto)
        plc.take()
    core.until_acked("plc", 900)
    assert len(core.acked) <= 2 + (clock.now_ns() - started_ns) / (50 * MS)
    assert core.acked == sorted(core.acked)


def test_an_ack_of_what_was_not_sent_is_refused_and_moves_nothing(core, connect):
    core.commit(5)
    plc = connect()
    plc.subscribe()
    plc.until(lambda: len(plc.history) == 5)
    plc.ack(6)
    assert plc.hear("Nack").why == "BAD_HEADER"
    assert connect().subscribe().acked == 0
    assert core.acked == []


def test_a_consumer_that_never_acks_stops_at_its_windows_and_nobody_else_does(core, connect):
    core.commit(3000)
    mute, plc = connect("mute"), connect("plc")
    mute.subscribe()
    plc.subscribe()
    for _ in range(25):
        core.commit(60)
        plc.rest(quiet_ms=5)
        plc.ack(*(lane[-1].header.seq if lane else 0 for lane in (plc.history, plc.live)))
        mute.beat()
    plc.until(lambda: plc.history and plc.numbers("history")[-1] > 2048)
    plc.ack(2048, plc.numbers("live")[-1])
    plc.until(lambda: len(plc.live) == 1500 and len(plc.history) == 3000)
    mute.rest()
    assert (len(mute.live), len(mute.history)) == (1024, 2048)
    mute.ack(2048, 3000 + 1024)
    mute.until(lambda: len(mute.live) == 1500 and len(mute.history) == 3000)
    for one in (mute, plc):
        assert one.numbers("live") == list(range(3001, 4501))
        assert one.numbers("history") == list(range(1, 3001))


def test_what_retention_took_is_told_before_what_it_left(core, connect):
    core.store.commit(50)
    core.store.trim(30)
    plc = connect()
    said = plc.subscribe()
    assert (said.oldest, said.history_from) == (31, 1)
    gone = plc.hear("Truncated")
    assert gone == Truncated(1, 30, core.store.rows[29].chain)
    assert not plc.history
    plc.until(lambda: len(plc.history) == 20)
    verify(plc.history, gone.chain)
    assert plc.numbers("history") == list(range(31, 51))


def test_what_retention_takes_on_the_way_is_told_where_it_is_missed(core, connect):
    core.store.commit(3000)
    plc = connect()
    plc.subscribe()
    plc.until(lambda: len(plc.history) == 2048)
    core.store.trim(2500)
    plc.ack(2048)
    gone = plc.hear("Truncated")
    read_ahead = plc.numbers("history")[-1]
    assert (gone.first, gone.last) == (read_ahead + 1, 2500)
    plc.until(lambda: plc.numbers("history")[-1] == 3000)
    assert plc.numbers("history")[-500:] == list(range(2501, 3001))


def test_a_replay_sends_the_same_bytes_once_more(core, connect):
    core.commit(10)
    plc = connect()
    plc.subscribe("live")
    plc.say(Type.REPLAY, Replay(3, 6))
    plc.until(lambda: len(plc.again) == 4)
    assert plc.numbers("again") == [3, 4, 5, 6]
    assert [bytes(message.metadata) for message in plc.again] == [
        row.body for row in core.store.rows[2:6]
    ]
    assert all(message.header.flags == Flag.REPLAY for message in plc.again)


def test_a_replay_of_what_is_gone_says_so(core, connect):
    core.store.commit(10)
    core.store.trim(5)
    plc = connect()
    plc.subscribe("live")
    plc.say(Type.REPLAY, Replay(3, 7))
    assert plc.hear("Truncated") == Truncated(3, 5, core.store.rows[4].chain)
    plc.until(lambda: len(plc.again) == 2)
    plc.say(Type.REPLAY, Replay(1, 2))
    assert plc.hear("Truncated").last == 5
    plc.rest()
    assert plc.numbers("again") == [6, 7]


def test_a_replay_that_cannot_be_is_refused(core, connect):
    core.commit(5000)
    plc = connect()
    plc.subscribe("live")
    for first, last in ((0, 1), (6, 5), (4999, 5001)):
        plc.say(Type.REPLAY, Replay(first, last))
        assert plc.hear("Nack").why == "BAD_HEADER"
    plc.say(Type.REPLAY, Replay(1, 4097))
    assert plc.hear("Nack").why == "NOT_ALLOWED"
    for _ in range(17):
        plc.say(Type.REPLAY, Replay(1, 4096))
    assert plc.hear("Nack").why == "BUSY"


def test_live_verdicts_leave_soon_after_their_row(core, connect):
    plc = connect()
    plc.subscribe()
    waited_ms = []
    for _ in range(200):
        (row,) = core.store.commit()
        said_ns = clock.now_ns()
        core.line.send(Row(row.vseq, row.body, row.chain))
        plc.until(lambda row=row: plc.live and plc.live[-1].header.seq == row.vseq)
        waited_ms.append((plc.live[-1].header.t_mono_ns - said_ns) / MS)
    assert sorted(waited_ms)[100] < 1
