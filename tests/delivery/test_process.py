"""Delivery beside core: heartbeats, runs, connections, start and stop."""

import pytest

from edge_inspector import clock
from edge_inspector.channel import Alive, ExpectWanted, RunBegan, RunWanted
from edge_inspector.wire.assured import Bye, Expect, NewRun, Replay, Run
from edge_inspector.wire.codes import Type

MS = clock.NS_PER_MS


def test_heartbeats_come_with_the_pulse_of_core_and_only_then(core, connect):
    plcs = [connect("one"), connect("two")]
    for plc in plcs:
        plc.subscribe()
    core.commit(3)
    for state in ("ready", "degraded", "ready"):
        core.pulse(state)
    for plc in plcs:
        plc.rest()
        beats = plc.heartbeats
        assert [(beat.state, beat.toggle) for beat in beats] == [
            *(("ready", True), ("degraded", False), ("ready", True)),
        ]
        assert (beats[-1].head_vseq, beats[-1].oldest_vseq) == (3, 1)
    core.commit()
    for plc in plcs:
        plc.until(lambda plc=plc: len(plc.live) == 4)
        plc.rest(quiet_ms=400)
        assert len(plc.heartbeats) == 3


def test_a_new_consumer_hears_at_once_how_the_station_is(core, connect):
    early, plc, late = connect("early"), connect("plc"), connect("late")
    early.subscribe()
    core.pulse("degraded")
    early.hear("Heartbeat")
    asked_ns = clock.now_ns()
    plc.subscribe()
    assert plc.hear("Heartbeat", timeout_ms=200).state == "degraded"
    assert clock.now_ns() - asked_ns < 200 * MS
    plc.rest(quiet_ms=400)
    late.subscribe()
    late.rest(quiet_ms=100)
    assert not late.heartbeats


def test_a_new_run_is_asked_of_core_and_told_to_all(core, connect):
    one, two = connect("one"), connect("two")
    assert one.subscribe().run == 0
    two.subscribe()
    one.say(Type.NEW_RUN, NewRun("st1"))
    assert core.message(RunWanted) is not None
    core.store.outbox.new_run()
    core.store.wait(lambda: core.store.runs == [1])
    core.line.send(RunBegan(1))
    for plc in (one, two):
        assert plc.hear("Run") == Run("st1", 1)
    assert connect("three").subscribe().run == 1


def test_a_unit_that_is_announced_is_told_to_core(core, connect):
    plc = connect()
    plc.subscribe()
    plc.say(Type.EXPECT, Expect("st1", 1001))
    assert core.message(ExpectWanted) == ExpectWanted(1001)
    plc.say(Type.EXPECT, Expect("other", 1002))
    assert plc.hear("Nack").why == "NOT_ALLOWED"
    plc.say(Type.EXPECT, Expect("st1", 0))
    assert plc.hear("Nack").why == "BAD_HEADER"


def test_the_run_is_known_from_the_log(store, start_delivery, connect):
    store.outbox.new_run()
    store.wait(lambda: store.runs == [1])
    start_delivery()
    assert connect().subscribe().run == 1


def test_only_this_station_is_served(core, connect):
    plc = connect()
    assert plc.subscribe(stations=["other"]).why == "NOT_ALLOWED"
    assert plc.subscribe(stations=["other", "st1"]).head == 0
    plc.say(Type.NEW_RUN, NewRun("other"))
    assert plc.hear("Nack").why == "NOT_ALLOWED"
    with pytest.raises(TimeoutError):
        core.message(RunWanted, timeout_s=0.2)


def test_the_newest_connection_of_a_name_is_served_and_the_older_told(core, connect):
    old, new = connect(), connect()
    old.subscribe()
    new.subscribe()
    assert "another connection" in old.hear("Bye").why
    core.commit()
    new.until(lambda: new.live)
    old.rest()
    assert not old.live


def test_a_peer_that_is_silent_for_a_second_is_forgotten_until_it_subscribes_again(core, connect):
    silent, plc = connect("silent"), connect("plc")
    silent.subscribe()
    plc.subscribe()
    give_up_ns = clock.now_ns() + 1300 * MS
    plc.until(lambda: clock.now_ns() > give_up_ns)
    core.pulse()
    assert plc.hear("Heartbeat")
    silent.say(Type.BYE, Bye())
    assert silent.hear("Heartbeat", "Nack").why == "HELLO_FIRST"
    assert silent.subscribe().head == 0
    core.until_counted("consumers_come", 3)
    assert (core.counters["consumers_come"], core.counters["consumers_gone"]) == (3, 1)


def test_a_consumer_that_says_goodbye_is_written_to_no_more(core, connect):
    plc = connect()
    plc.subscribe()
    plc.say(Type.BYE, Bye("closed"))
    core.until_counted("consumers_gone")
    core.commit()
    core.pulse()
    plc.socket.poll(200)
    assert plc.take() is None


def test_on_stop_live_verdicts_leave_before_the_goodbye(core, connect):
    plc = connect()
    plc.subscribe()
    core.commit(500)
    core.store.commit(3)
    stopped_ns = clock.now_ns()
    core.stop()
    assert plc.hear("Bye")
    assert plc.numbers("live") == list(range(1, 504))
    assert plc.heartbeats[-1].state == "stopping"
    assert core.process.wait(1) == 0
    assert clock.now_ns() - stopped_ns < 600 * MS


def test_on_stop_a_consumer_that_does_not_take_its_verdicts_is_not_waited_for(core, connect):
    plc = connect()
    plc.subscribe()
    core.commit(2000)
    stopped_ns = clock.now_ns()
    core.stop()
    assert core.process.wait(1) == 0
    assert clock.now_ns() - stopped_ns < 600 * MS


def test_it_leaves_when_core_is_gone(core):
    core.line._socket.shutdown(2)
    assert core.process.wait(1) == 0


def test_it_says_that_it_lives_and_what_it_did(core, connect):
    core.commit(5)
    plc = connect()
    plc.subscribe()
    core.commit(3)
    plc.say(Type.REPLAY, Replay(1, 2))
    plc.until(lambda: len(plc.live) + len(plc.history) + len(plc.again) == 10)
    core.message(Alive)
    core.message(Alive)
    assert core.counters == {
        "verdicts_sent": 3,
        "verdicts_historical": 5,
        "verdicts_again": 2,
        "consumers_come": 1,
    }


def test_it_refuses_to_listen_beyond_this_host(start_delivery):
    failed = start_delivery(endpoint="tcp://192.0.2.7:5571").started
    assert failed.refused
    assert "CURVE" in failed.detail


def test_an_endpoint_that_cannot_be_bound_is_named(start_delivery, tmp_path):
    failed = start_delivery(endpoint=f"ipc://{tmp_path}/not/there").started
    assert not failed.refused
    assert "not/there" in failed.detail


def test_a_store_that_is_not_there_is_named(start_delivery, tmp_path):
    failed = start_delivery(store=str(tmp_path / "other")).started
    assert "other" in failed.detail


def test_only_user_and_group_may_connect_over_ipc(core, tmp_path):
    assert (tmp_path / "verdicts").stat().st_mode & 0o777 == 0o660
