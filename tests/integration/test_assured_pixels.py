"""Over a real station: the digest that a source tells is held against its pixels."""

import zmq

from edge_inspector.records import Outcome, Reason
from edge_inspector.wire.assured import Accepted, Nack, Settled
from edge_inspector.wire.codes import CODES, Why
from edge_inspector.wire.header import digest
from tests.ingest.peer import Peer
from tests.integration.conftest import BAD, GOOD


def settled(peer, seq):
    header, told = peer.hear(Settled)
    assert header.seq == seq
    return header.code, told


def test_a_digest_of_other_pixels_is_bad_input(open_bench):
    bench = open_bench(source="assured", sinks=[])
    with zmq.Context() as context:
        peer = Peer(context, bench.frames)
        peer.hello()
        peer.frame(1, GOOD)
        peer.frame(2, GOOD, digest=digest(BAD.tobytes()))
        peer.frame(3, GOOD, digest=0)
        peer.frame(4, BAD)
        answers = [settled(peer, seq) for seq in (1, 2, 3, 4)]
        peer.close()
    codes = [code for code, _ in answers]
    bad = CODES[Reason.BAD_INPUT]
    assert codes == [CODES[Outcome.PASS], bad, bad, CODES[Outcome.FAIL]]
    assert "not those that arrived" in answers[1][1].detail
    assert [told.vseq for _, told in answers] == [1, 2, 3, 4]


def test_other_pixels_under_a_settled_number_change_nothing(open_bench):
    bench = open_bench(source="assured", sinks=[])
    with zmq.Context() as context:
        peer = Peer(context, bench.frames)
        peer.hello()
        peer.frame(1, BAD)
        first = settled(peer, 1)
        peer.frame(1, GOOD)
        header, nack = peer.hear(Nack)
        assert (header.seq, nack.why) == (1, Why.CONFLICT)
        peer.frame(1, BAD)
        assert settled(peer, 1) == first
        assert peer.heard[Accepted.__name__] >= 1
        peer.close()
    assert first[0] == CODES[Outcome.FAIL]
