"""Delivery killed at each of its named places: what a consumer holds is whole all the same."""

import pytest

from edge_inspector.outbox import Log
from edge_inspector.wire.assured import Subscribe
from edge_inspector.wire.codes import Type

pytestmark = pytest.mark.fault


class Listening:
    """A consumer that subscribes again whenever delivery is gone, and drops numbers it knows."""

    def __init__(self, connect):
        self.connect = connect
        self.held = {}
        self.upto = 0

    def follow(self, core, upto):
        """Take verdicts and acknowledge them until it holds all up to this one or core is left."""
        plc = self.connect("plc")
        plc.say(Type.SUBSCRIBE, Subscribe(consumer="plc"))
        plc.until(lambda: self.step(plc) >= upto or core.process.poll() is not None)
        if core.process.poll() is not None:  # else its last ACK may still be on the way
            plc.close()

    def step(self, plc):
        messages = plc.live + plc.history
        for message in messages:
            body = self.held.setdefault(message.header.seq, bytes(message.metadata))
            assert body == bytes(message.metadata)
        if messages:
            plc.live.clear()
            plc.history.clear()
            while self.upto + 1 in self.held:
                self.upto += 1
            plc.ack(self.upto)
        return self.upto


@pytest.mark.parametrize("failpoint", ["delivery.row", "delivery.sent", "delivery.acked"])
def test_a_kill_at_a_named_place_costs_a_restart_and_no_verdict(
    store, start_delivery, connect, failpoint
):
    listening = Listening(connect)
    kills = 0
    for count in (1, 3, 10):
        core = start_delivery(env={"EI_FAILPOINT": f"{failpoint}:{count}"})
        core.commit(20)
        listening.follow(core, len(store.rows))
        kills += core.process.wait(2) == -9
        while core.message() is not None:
            pass
    core = start_delivery()
    core.commit(20)
    listening.follow(core, 80)
    assert kills == 3
    assert listening.held == {row.vseq: row.body for row in store.rows}
    core.until_acked("plc", 80)
    log = Log(store.folder)
    store.wait(lambda: log.cursor("plc") == 80)
    log.close()
