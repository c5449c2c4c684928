"""The reference line controller on real sockets, against a delivery that the test pretends."""

import threading

import pytest

from edge_inspector import clock
from edge_inspector.client import VerdictConsumer
from edge_inspector.errors import Breakage, Misuse
from edge_inspector.records import Baseline, Outcome
from edge_inspector.wire.assured import (
    Ack,
    Bye,
    Expect,
    Heartbeat,
    Incumbent,
    Nack,
    NewRun,
    Replay,
    Subscribe,
)
from edge_inspector.wire.codes import Type, Why

MS = clock.NS_PER_MS


def wait_until(condition, timeout_s=5.0):
    give_up_ns = clock.now_ns() + int(timeout_s * 1e9)
    while not condition():
        assert clock.now_ns() < give_up_ns, "waited in vain"
        threading.Event().wait(0.005)


def opened(delivery, **options):
    return VerdictConsumer(delivery.endpoint, consumer="gate", **options)


def numbers(consumer, count):
    return [consumer.receive(2000).vseq for _ in range(count)]


@pytest.fixture
def verdicts(delivery):
    with opened(delivery, station="st1") as consumer:
        wait_until(lambda: consumer.connected and consumer.state == "ready")
        yield consumer


def test_a_fresh_pass_lets_its_own_unit_through_and_no_other(delivery, verdicts):
    delivery.commit(trigger_id=1001)
    delivered = verdicts.receive(2000)
    assert verdicts.why_not(delivered, trigger_id=1001) == ""
    assert verdicts.lets_through(delivered, trigger_id=1001)
    assert not verdicts.lets_through(delivered, trigger_id=1002)
    assert not verdicts.lets_through(delivered)


def test_a_reject_lets_nothing_through(delivery, verdicts):
    delivery.commit(outcome=Outcome.FAIL)
    assert verdicts.why_not(verdicts.receive(2000), trigger_id=1) == "the outcome is fail"


def test_silence_shuts_the_gate_before_a_verdict_is_too_old(delivery, verdicts):
    delivery.commit()
    delivered = verdicts.receive(2000)
    assert verdicts.lets_through(delivered, trigger_id=1)
    delivery.beating = False
    wait_until(lambda: not verdicts.lets_through(delivered, trigger_id=1), 0.5)
    assert verdicts.why_not(delivered, trigger_id=1).startswith("no heartbeat")


def test_subscribe_names_the_consumer_and_where_to_begin(delivery):
    for _ in range(3):
        delivery.commit(send=False)
    for start in (0, 3, "live"):
        with opened(delivery, station="st1", start=start, lanes=1) as consumer:
            wait_until(lambda: consumer.connected)
    assert delivery.heard(Subscribe) == [
        Subscribe(consumer="gate", start=start, lanes=1, stations=["st1"])
        for start in (0, 3, "live")
    ]


def test_what_was_committed_before_comes_as_history_and_opens_nothing(delivery):
    for _ in range(3):
        delivery.commit(send=False)
    with opened(delivery) as consumer:
        got = [consumer.receive(2000) for _ in range(3)]
        assert [(d.vseq, d.historical, d.lane) for d in got] == [
            (vseq, True, "history") for vseq in (1, 2, 3)
        ]
        assert consumer.why_not(got[0], trigger_id=1) == "flagged HISTORICAL"


def test_a_verdict_is_acknowledged_once_the_loop_comes_back(delivery, verdicts):
    delivery.commit()
    assert verdicts.receive(2000).vseq == 1
    threading.Event().wait(0.15)
    assert delivery.acked == 0
    assert verdicts.receive(0) is None
    asked_ns = clock.now_ns()
    wait_until(lambda: delivery.acked == 1)
    assert clock.now_ns() - asked_ns < 250 * MS  # 50 ms, and what a busy box adds


def test_hold_acknowledges_without_coming_back(delivery, verdicts):
    delivery.commit()
    verdicts.hold(verdicts.receive(2000))
    wait_until(lambda: delivery.acked == 1)
    assert delivery.heard(Ack)[-1] == Ack(1, 1)


def test_what_a_crash_interrupts_is_sent_again(delivery):
    for _ in range(3):
        delivery.commit(send=False)

    def crash():
        with opened(delivery) as consumer:
            for delivered in consumer:
                if delivered.vseq == 2:
                    raise LookupError

    with pytest.raises(LookupError):
        crash()
    with opened(delivery) as consumer:
        assert numbers(consumer, 2) == [2, 3]
    wait_until(lambda: delivery.acked == 3)


def test_close_holds_what_was_taken_last_and_says_so(delivery):
    with opened(delivery) as consumer:
        delivery.commit(send=False)
        wait_until(lambda: consumer.connected)
        delivery.commit()
        for delivered in consumer:
            if delivered.vseq == 2:
                break
    wait_until(lambda: delivery.heard(Bye) != [])
    assert delivery.acked == 2
    with pytest.raises(Breakage, match="is closed; open another"):
        consumer.receive(0)


def test_the_consumer_beats_each_100_ms(delivery, verdicts):
    threading.Event().wait(1.05)
    times = [at for at, said in delivery.said if isinstance(said, Heartbeat)]
    assert 6 <= len(times) <= 15


def test_a_daemon_that_dies_and_returns_is_subscribed_again_behind_what_is_held(delivery, verdicts):
    delivery.commit()
    delivery.commit()
    assert numbers(verdicts, 2) == [1, 2]
    assert verdicts.receive(0) is None
    wait_until(lambda: delivery.acked == 2)
    delivery.stop()
    wait_until(lambda: not verdicts.connected)
    assert verdicts.state is None
    delivery.commit(send=False)
    delivery.start()
    back_ns = clock.now_ns()
    assert numbers(verdicts, 1) == [3]
    assert clock.now_ns() - back_ns < 1000 * MS
    assert delivery.heard(Subscribe)[-1].start == 3
    assert verdicts.counts.subscriptions == 2


def test_a_link_that_falls_silent_is_replaced(delivery, verdicts):
    """Half-open: the daemon's socket stands, and nothing comes."""
    delivery.beating = False
    wait_until(lambda: len(delivery.heard(Subscribe)) >= 2)
    delivery.beating = True
    wait_until(lambda: verdicts.connected and verdicts.state == "ready")
    delivery.commit()
    assert verdicts.lets_through(verdicts.receive(2000), trigger_id=1)


def test_verdicts_that_were_taken_and_not_held_do_not_come_twice(delivery, verdicts):
    for _ in range(4):
        delivery.commit()
    assert numbers(verdicts, 2) == [1, 2]
    delivery.stop()
    wait_until(lambda: not verdicts.connected)
    delivery.commit(send=False)
    delivery.start()
    wait_until(lambda: verdicts.counts.delivered == 5)
    assert delivery.heard(Subscribe)[-1].start == 2
    assert verdicts.counts.duplicates == 3
    assert numbers(verdicts, 3) == [3, 4, 5]
    assert verdicts.receive(100) is None


@pytest.mark.parametrize("wrong", [{"digest": 1}, {"offset": 1}, {"seq": 7}])
def test_a_damaged_verdict_comes_again_as_history(delivery, verdicts, wrong):
    delivery.commit(send=False)
    delivery.send(1, **wrong)
    delivered = verdicts.receive(2000)
    assert (delivered.vseq, delivered.historical) == (1, True)
    assert verdicts.counts.refused == 1
    assert not verdicts.lets_through(delivered, trigger_id=1)


def test_a_user_who_does_not_read_does_not_stop_the_heartbeats(delivery, verdicts):
    for _ in range(3000):
        delivery.commit()
    threading.Event().wait(1.0)
    assert verdicts.connected
    assert verdicts.state == "ready"
    assert delivery.acked == 0
    assert numbers(verdicts, 3000) == list(range(1, 3001))


def test_a_queue_that_overflowed_loses_nothing(delivery, verdicts):
    for _ in range(5000):
        delivery.commit()
    wait_until(lambda: verdicts.counts.postponed > 0)
    assert numbers(verdicts, 5000) == list(range(1, 5001))
    assert verdicts.receive(0) is None
    wait_until(lambda: delivery.acked == 5000)


def test_hello_first_is_answered_by_subscribing_again(delivery, verdicts):
    delivery._say(Type.NACK, Nack(why=Why.HELLO_FIRST))
    wait_until(lambda: len(delivery.heard(Subscribe)) == 2)
    wait_until(lambda: verdicts.connected)
    delivery.commit()
    assert numbers(verdicts, 1) == [1]
    assert verdicts.counts.subscriptions == 2


def test_a_refusal_is_told_and_not_asked_about_all_the_time(delivery):
    delivery.refuse = Nack(why=Why.NOT_ALLOWED, detail="station st2 is not here")
    with opened(delivery, station="st2") as consumer:
        wait_until(lambda: consumer.problem != "")
        assert consumer.problem == "NACK NOT_ALLOWED station st2 is not here"
        threading.Event().wait(0.6)
        assert len(delivery.heard(Subscribe)) == 1
        delivery.refuse = None
        wait_until(lambda: consumer.connected)


def test_a_consumer_of_the_same_name_is_not_driven_out_at_once(delivery, verdicts):
    """The daemon says BYE to the older one; two that came back at once would never stop."""
    delivery._say(Type.BYE, Bye("'gate' subscribed on another connection"))
    wait_until(lambda: not verdicts.connected)
    assert verdicts.problem == "BYE 'gate' subscribed on another connection"
    threading.Event().wait(0.6)
    assert len(delivery.heard(Subscribe)) == 1
    wait_until(lambda: verdicts.connected)


def test_a_new_run_makes_the_old_triggers_strangers(delivery, verdicts):
    delivery.commit(trigger_id=1)
    delivered = verdicts.receive(2000)
    assert verdicts.lets_through(delivered, trigger_id=1)
    assert verdicts.new_run() == 2
    assert not verdicts.lets_through(delivered, trigger_id=1)
    delivery.commit(trigger_id=1)
    assert verdicts.lets_through(verdicts.receive(2000), trigger_id=1)
    assert delivery.heard(NewRun) == [NewRun("st1")]


def test_a_run_that_nobody_gives_is_a_breakage_and_matches_nothing(delivery, verdicts):
    delivery.commit()
    delivered = verdicts.receive(2000)
    delivery.answering = False
    with pytest.raises(Breakage, match=r"gave no new run within 100 ms \(silence\)"):
        verdicts.new_run(timeout_ms=100)
    assert not verdicts.lets_through(delivered, trigger_id=1)


def test_a_run_that_is_refused_says_why(delivery, verdicts):
    delivery.refuse = Nack(why=Why.NOT_ALLOWED, detail="not this station")
    with pytest.raises(Breakage, match=r"NOT_ALLOWED not this station"):
        verdicts.new_run()


def test_a_new_run_needs_a_station(delivery):
    with opened(delivery) as consumer, pytest.raises(Misuse, match="the station it stands at"):
        consumer.new_run()


def test_announced_parts_are_told_in_order(delivery, verdicts):
    wait_until(lambda: verdicts.connected)
    for trigger_id in (5, 6, 7):
        verdicts.expect(trigger_id)
    wait_until(lambda: len(delivery.heard(Expect)) == 3)
    assert delivery.heard(Expect) == [Expect("st1", n) for n in (5, 6, 7)]


def test_a_part_that_nobody_heard_of_in_time_is_not_announced_later(delivery, verdicts):
    wait_until(lambda: verdicts.connected)
    delivery.answering = delivery.beating = False
    wait_until(lambda: not verdicts.connected)
    verdicts.expect(5)
    threading.Event().wait(0.5)
    delivery.answering = delivery.beating = True
    wait_until(lambda: verdicts.connected)
    verdicts.expect(6)
    wait_until(lambda: delivery.heard(Expect))
    assert delivery.heard(Expect) == [Expect("st1", 6)]


@pytest.mark.parametrize("trigger_id", [0, -1, 2**63])
def test_a_part_needs_a_number(verdicts, trigger_id):
    with pytest.raises(Misuse, match=f"expect of trigger {trigger_id}"):
        verdicts.expect(trigger_id)


def test_a_replay_is_received_and_moves_no_cursor(delivery, verdicts):
    for _ in range(3):
        delivery.commit()
    assert numbers(verdicts, 3) == [1, 2, 3]
    verdicts.replay(1, 2)
    again = [verdicts.receive(2000) for _ in range(2)]
    assert [(d.vseq, d.replay) for d in again] == [(1, True), (2, True)]
    assert verdicts.why_not(again[0], trigger_id=1) == "flagged REPLAY"
    assert delivery.heard(Replay) == [Replay(1, 2)]
    with pytest.raises(Misuse, match="replay of 3 to 4; the daemon has 1 to 3"):
        verdicts.replay(3, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"consumer": "a gate"}, "name 'a gate'"),
        ({"station": ""}, "name ''"),
        ({"lanes": 3}, "3 lanes"),
        ({"start": -1}, "start -1"),
        ({"start": "now"}, "start 'now'"),
        ({"endpoint": "udp://127.0.0.1:1"}, "endpoint 'udp://127.0.0.1:1'"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, options, message):
    given = {"endpoint": f"ipc://{tmp_path}/nobody", "consumer": "gate", **options}
    with pytest.raises(Misuse, match=message):
        VerdictConsumer(given.pop("endpoint"), **given)


def test_nobody_there_is_waited_for(tmp_path):
    with VerdictConsumer(f"ipc://{tmp_path}/nobody", consumer="gate") as consumer:
        assert consumer.receive(400) is None
        assert not consumer.connected


def test_the_incumbents_verdict_is_told_once_the_daemon_listens(delivery):
    with opened(delivery, station="st1") as consumer:
        consumer.incumbent(Baseline(Outcome.FAIL, "dent"), trigger_id=7)
        wait_until(lambda: delivery.heard(Incumbent))
        (said,) = delivery.heard(Incumbent)
        assert (said.station, said.outcome, said.trigger_id) == ("st1", Outcome.FAIL, 7)
        with pytest.raises(Misuse, match="give one of the two ids"):
            consumer.incumbent(Baseline(Outcome.PASS))
    with opened(delivery) as consumer, pytest.raises(Misuse, match="its station"):
        consumer.incumbent(Baseline(Outcome.PASS), unit_id="a")
