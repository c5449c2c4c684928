"""The reference line controller against a ROUTER that the test plays, on real sockets."""

import threading

import msgspec
import pytest
import zmq

from edge_inspector import clock
from edge_inspector.client import VerdictConsumer
from edge_inspector.errors import Breakage, Misuse
from edge_inspector.records import Outcome, Verdict
from edge_inspector.wire import assured
from edge_inspector.wire.assured import Heartbeat, Nack, Run, Subscribed, Truncated
from edge_inspector.wire.codes import Flag, Type, Why, code_of
from edge_inspector.wire.header import Header, chained, digest

MS = clock.NS_PER_MS


class Daemon:
    """One delivery socket in a thread: a log, heartbeats, and all that a consumer said."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.rows = []
        self.chains = [0]
        self.run = 1
        self.acked = 0
        self.beating = True
        self.answering = True
        self.said = []
        self.peer = None
        self.live_from = 1
        self._outbox = []
        self._lock = threading.Lock()
        self._context = zmq.Context()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def commit(self, outcome=Outcome.PASS, *, trigger_id=None, flags=0, send=True, age_ms=5):
        """Append a verdict to the log and send it on the live lane."""
        vseq = len(self.rows) + 1
        verdict = Verdict(
            unit_key=f"t:st1/{self.run}/{trigger_id or vseq}",
            station="st1",
            outcome=outcome,
            frames=(),
            recipe="board",
            run=self.run,
            trigger_id=trigger_id or vseq,
            unit_id=f"A-{vseq}",
            time_zero_ns=clock.now_ns() - age_ms * MS,
            valid_us=1_000_000,
            vseq=vseq,
        )
        body = msgspec.msgpack.encode(verdict)
        self.rows.append((verdict, body))
        self.chains.append(chained(self.chains[-1], body))
        if send:
            self.send_verdict(vseq, flags)
        return vseq

    def send_verdict(self, vseq, flags=0, **wrong):
        verdict, body = self.rows[vseq - 1]
        code = code_of(verdict.outcome, verdict.reason)
        header = Header(
            type=Type.VERDICT,
            flags=flags,
            seq=vseq,
            trigger_id=verdict.trigger_id,
            t_mono_ns=clock.now_ns(),
            pixel_format=code,
            codec=code ^ 0xFF,
            digest=digest(body),
            offset=self.chains[vseq],
        )
        self.send_parts(assured.assemble(msgspec.structs.replace(header, **wrong), body))

    def send(self, kind, metadata, flags=0):
        header = Header(type=kind, flags=flags, t_mono_ns=clock.now_ns())
        self.send_parts(assured.build(metadata, header))

    def send_parts(self, parts):
        with self._lock:
            self._outbox.append(parts)

    def heard(self, kind):
        return [said for said in list(self.said) if type(said).__name__ == kind]

    def _serve(self):
        beat_ns, toggle = 0, False
        with self._context.socket(zmq.ROUTER) as router:
            router.linger = 0
            router.bind(self.endpoint)
            while not self._closing.is_set():
                if router.poll(5):
                    self.peer, *parts = router.recv_multipart()
                    self._answer(assured.split(parts))
                if self.peer is None:
                    continue
                if self.beating and clock.now_ns() - beat_ns > 50 * MS:
                    beat_ns, toggle = clock.now_ns(), not toggle
                    head = len(self.rows)
                    self.send(
                        Type.HEARTBEAT,
                        Heartbeat(head_vseq=head, oldest_vseq=1, state="ready", toggle=toggle),
                    )
                with self._lock:
                    outbox, self._outbox = self._outbox, []
                for message in outbox:
                    router.send_multipart([self.peer, *message])

    def _answer(self, message):
        said = assured.read(message)
        self.said.append(said)
        if message.header.type == Type.SUBSCRIBE and self.answering:
            head = len(self.rows)
            self.live_from = head + 1
            start = {0: self.acked + 1, "live": head + 1}.get(said.start, said.start)
            self.send(
                Type.SUBSCRIBED,
                Subscribed(
                    link="1",
                    head=head,
                    oldest=1,
                    acked=self.acked,
                    live_from=head + 1,
                    live_chain=self.chains[head],
                    history_from=min(start, head + 1),
                    history_chain=self.chains[min(start, head + 1) - 1],
                    run=self.run,
                ),
            )
            for vseq in range(start, head + 1):
                self.send_verdict(vseq, Flag.HISTORICAL)
        elif message.header.type == Type.ACK:
            self.acked = max(self.acked, said.upto)
        elif message.header.type == Type.NEW_RUN:
            self.run += 1
            self.send(Type.RUN, Run(said.station, self.run))
        elif message.header.type == Type.REPLAY:
            for vseq in range(said.first, said.last + 1):
                self.send_verdict(vseq, Flag.REPLAY)

    def close(self):
        self._closing.set()
        self._thread.join()
        self._context.destroy(linger=0)


def wait_until(condition, timeout_s=5.0):
    give_up_ns = clock.now_ns() + int(timeout_s * 1e9)
    while not condition():
        assert clock.now_ns() < give_up_ns, "waited in vain"
        threading.Event().wait(0.005)


@pytest.fixture
def daemon(tmp_path):
    player = Daemon(f"ipc://{tmp_path}/verdicts")
    yield player
    player.close()


@pytest.fixture
def verdicts(daemon):
    with VerdictConsumer(daemon.endpoint, consumer="gate", station="st1") as consumer:
        wait_until(lambda: consumer.connected and consumer.state == "ready")
        yield consumer


def test_a_fresh_pass_of_the_unit_at_the_gate_opens_it(daemon, verdicts):
    daemon.commit(trigger_id=1001)
    delivered = verdicts.receive(2000)
    assert verdicts.why_not(delivered, trigger_id=1001) == ""
    assert verdicts.lets_through(delivered, trigger_id=1001)
    assert not verdicts.lets_through(delivered, trigger_id=1002)
    assert not verdicts.lets_through(delivered)
