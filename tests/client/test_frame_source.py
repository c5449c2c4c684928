"""The reference source against a ROUTER that plays the daemon, over ipc."""

import asyncio
import threading
from collections import Counter

import numpy as np
import pytest

from edge_inspector import clock
from edge_inspector.client import AsyncFrameSource, FrameSource, Settlement, source_thread
from edge_inspector.errors import Breakage, Misuse
from edge_inspector.records import Outcome, Reason
from edge_inspector.wire import assured
from edge_inspector.wire.assured import Heartbeat, Nack, Settled
from edge_inspector.wire.codes import Type, Why
from edge_inspector.wire.header import Header

IMAGE = np.arange(64, dtype=np.uint8).reshape(8, 8)
JPEG = b"\xff\xd8\xff\xe0 as far as a source looks"
BACK_S = 1.0
"""Back within a second, that is the promise after every trouble of the network."""


@pytest.fixture
def source(pretend_daemon):
    with FrameSource(pretend_daemon.endpoint, name="top", cameras=("main", "side")) as source:
        yield source


def until(true, timeout_s=10.0):
    """Wait for what another thread does."""
    give_up_ns = clock.now_ns() + round(timeout_s * 1e9)
    while not true():
        assert clock.now_ns() < give_up_ns, "did not happen in time"
        threading.Event().wait(0.005)
    return True


def settled(source, seq, timeout_ms=3000):
    found = source.wait(seq, timeout_ms=timeout_ms)
    assert found is not None, f"frame {seq} is not settled; {source.counts}"
    return found


# --- what is offered -------------------------------------------------------------------------


def test_a_frame_offered_is_settled(source, pretend_daemon):
    found = settled(source, source.offer(IMAGE, trigger_id=17, unit_id="A-17"))
    assert (found.seq, found.vseq, found.outcome, found.reason) == (1, 1, Outcome.PASS, None)
    assert (found.trigger_id, found.unit_id, found.detail) == (17, "A-17", "because")
    assert pretend_daemon.pixels[1] == IMAGE.tobytes()
    assert source.unsettled == 0


def test_a_reason_is_handed_on(source, pretend_daemon):
    pretend_daemon.answer = (Outcome.UNINSPECTED, Reason.MODEL_FAULT)
    found = settled(source, source.offer(IMAGE))
    assert (found.outcome, found.reason) == (Outcome.UNINSPECTED, Reason.MODEL_FAULT)


def test_the_header_says_what_is_offered(source, pretend_daemon):
    seq = source.offer(IMAGE, trigger_id=9, camera="side", recipe="board", age_ms=40, budget_ms=300)
    settled(source, seq)
    (header, facts), *_ = pretend_daemon.frames
    assert (header.epoch, header.seq, header.trigger_id) == (source.epoch.bytes, 1, 9)
    assert (header.width, header.height, header.stride) == (8, 8, 0)
    assert (header.pixel_format, header.codec, header.camera, header.recipe) == (1, 0, 2, 1)
    assert header.budget_us == 300_000
    assert 40_000 <= facts.age_us < 1_000_000


def test_a_repeated_picture_says_so_whatever_became_of_the_one_before(source, pretend_daemon):
    settled(source, source.offer(IMAGE, trigger_id=1, age_ms=1000, budget_ms=400))
    settled(source, source.offer(IMAGE, trigger_id=2))
    settled(source, source.offer(IMAGE + 1, trigger_id=3))
    facts = {header.seq: facts for header, facts in pretend_daemon.frames}
    assert [(facts[n].why, facts[n].repeat) for n in (1, 2, 3)] == [
        ("expired", False),
        (None, True),
        (None, False),
    ]


@pytest.mark.parametrize(
    ("pixels", "pixel_format", "numbers"),
    [
        (IMAGE, None, (1, 0, 8, 8)),
        (IMAGE.astype(">u2"), None, (2, 0, 8, 8)),
        (np.zeros((4, 6, 3), np.uint8), None, (3, 0, 4, 6)),
        (np.zeros((4, 6, 4), np.uint8), "rgba8", (6, 0, 4, 6)),
        (IMAGE, "bayer_gb8", (10, 0, 8, 8)),
        (JPEG, None, (0, 1, 0, 0)),
        (b"\x89PNG\r\n\x1a\n...", None, (0, 2, 0, 0)),
    ],
)
def test_each_kind_of_pixels(source, pretend_daemon, pixels, pixel_format, numbers):
    settled(source, source.offer(pixels, pixel_format=pixel_format))
    (header, _), *_ = pretend_daemon.frames
    assert (header.pixel_format, header.codec, header.height, header.width) == numbers


def test_two_byte_samples_go_low_byte_first(source, pretend_daemon):
    settled(source, source.offer(np.full((1, 1), 0x0102, ">u2")))
    assert pretend_daemon.pixels[1] == b"\x02\x01"


def test_the_array_may_change_once_it_is_offered(source, pretend_daemon):
    pretend_daemon.mute = True
    image = IMAGE.copy()
    seq = source.offer(image)
    image[:] = 0
    pretend_daemon.mute = False
    settled(source, seq)
    assert pretend_daemon.pixels[seq] == IMAGE.tobytes()


def test_without_a_copy_the_bytes_are_the_callers(source, pretend_daemon):
    wide = np.zeros((8, 16), np.uint8)
    wide[:, ::2] = IMAGE
    settled(source, source.offer(wide[:, ::2], copy=False))
    assert pretend_daemon.pixels[1] == IMAGE.tobytes()


def test_a_large_frame_goes_in_chunks(source, pretend_daemon):
    pretend_daemon.max_part = 100
    until(lambda: source.link)
    pretend_daemon.stop()
    pretend_daemon.start()
    until(lambda: source.counts["reconnects"])
    image = np.random.default_rng(0).integers(0, 255, (25, 40), np.uint8)
    settled(source, source.offer(image))
    assert pretend_daemon.pixels[1] == image.tobytes()
    assert len(pretend_daemon.frames) == 10


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pixels": IMAGE.astype(np.float32)}, "dtype '<f4' is not taken"),
        ({"pixels": np.zeros((2, 2, 3), np.uint16)}, "bgr16"),
        ({"pixels": np.zeros((1, 65_536), np.uint8)}, "65536 x 1 mono8"),
        ({"pixels": b"GIF89a"}, "neither JPEG nor PNG"),
        ({"trigger_id": 0}, "trigger_id 0"),
        ({"unit_id": "x" * 65}, "unit_id of 65 characters"),
        ({"camera": "top"}, "camera 'top'; this source has main, side"),
        ({"budget_ms": 0}, "budget_ms 0"),
        ({"pixel_format": "bgr8"}, "does not fit"),
    ],
)
def test_what_cannot_be_sent_is_misuse_and_gets_no_number(source, fields, words):
    with pytest.raises(Misuse, match=words):
        source.offer(**{"pixels": IMAGE} | fields)
    assert source.counts["offered"] == 0


def test_limits_and_recipes_of_the_daemon_are_misuse_once_they_are_known(source, pretend_daemon):
    until(lambda: source.link)
    with pytest.raises(Misuse, match="recipe 'boards'; the daemon knows board"):
        source.offer(IMAGE, recipe="boards")
    with pytest.raises(Misuse, match="16777217 bytes; the limit is 16777216"):
        source.offer(JPEG.ljust((1 << 24) + 1, b"\0"))


@pytest.mark.parametrize("bad", [{"name": "a b"}, {"name": "a", "cameras": ()}])
def test_names_are_checked_at_once(tmp_path, bad):
    with pytest.raises(Misuse):
        FrameSource(f"ipc://{tmp_path}/frames", **bad)


def test_an_endpoint_that_is_none_is_misuse():
    with pytest.raises(Misuse, match=r"write tcp://address:port"):
        FrameSource("frames.sock", name="top")


# --- time, credit, tombstones ----------------------------------------------------------------


def test_a_negative_age_counts_as_none(source, pretend_daemon):
    settled(source, source.offer(IMAGE, age_ms=-1000))
    (_, facts), *_ = pretend_daemon.frames
    assert facts.age_us >= 0


def test_a_lost_settlement_is_asked_for(source, pretend_daemon):
    pretend_daemon.settle = False
    seq = source.offer(IMAGE, budget_ms=300)
    until(lambda: pretend_daemon.seqs() == [seq])
    pretend_daemon.settle = True
    assert settled(source, seq).outcome is Outcome.PASS
    assert source.counts["resent"] == 1


def test_an_unanswered_frame_ends_as_a_timeout(source, pretend_daemon):
    pretend_daemon.settle = False
    found = settled(source, source.offer(IMAGE, budget_ms=90))
    assert (found.outcome, found.reason) == (Outcome.UNINSPECTED, Reason.TIMEOUT)
    assert len(pretend_daemon.seqs()) == 3
    assert source.counts["expired"] == 1


def test_a_busy_daemon_gets_the_frame_a_little_later(source, pretend_daemon):
    pretend_daemon.nacks[1] = [Nack(why=Why.BUSY, retry_ms=20)]
    assert settled(source, source.offer(IMAGE)).outcome is Outcome.PASS
    assert source.counts["nack_busy"] == 1


def test_a_conflict_is_told_and_counted(source, pretend_daemon):
    pretend_daemon.nacks[1] = [Nack(why=Why.CONFLICT, detail="other pixels")]
    found = settled(source, source.offer(IMAGE))
    assert (found.reason, found.vseq, found.detail) == (Reason.CONFLICT, None, "other pixels")
    assert source.counts["nack_conflict"] == 1


@pytest.mark.parametrize(
    ("why", "reason"),
    [("camera_fault", Reason.CAMERA_FAULT), ("no_image", Reason.NO_IMAGE)],
)
def test_a_camera_that_gave_nothing_is_reported(source, pretend_daemon, why, reason):
    found = settled(source, source.tombstone(why, trigger_id=3, camera="side"))
    assert (found.reason, found.trigger_id) == (reason, 3)
    (header, facts), *_ = pretend_daemon.frames
    assert (header.camera, facts.why) == (2, why)


def test_credit_is_kept_to(source, pretend_daemon):
    """The pretend daemon notes who sends more; it returns no credit here."""
    pretend_daemon.return_credit = False
    seqs = [source.offer(IMAGE, budget_ms=200) for _ in range(12)]
    outcomes = Counter(settled(source, seq).reason for seq in seqs)
    assert outcomes == {None: 8, Reason.TIMEOUT: 4}
    assert pretend_daemon.faults == []


def test_a_full_waiting_room_sheds_the_newest(pretend_daemon):
    pretend_daemon.mute = True
    with FrameSource(pretend_daemon.endpoint, name="top", hold_bytes=3 * 64) as source:
        seqs = [source.offer(IMAGE) for _ in range(5)]
        assert source.counts["no_credit"] == 2
        pretend_daemon.mute = False
        outcomes = [settled(source, seq).reason for seq in seqs]
    assert outcomes == [None, None, None, Reason.SHED, Reason.SHED]


# --- the link --------------------------------------------------------------------------------


def test_the_link_lives_by_beats_and_answers_pings(source, pretend_daemon):
    until(lambda: pretend_daemon.beats >= 4 and pretend_daemon.pongs >= 3)
    assert (source.link, source.state) == ("link-1", "ready")
    assert source.counts["reconnects"] == 0
    hello = pretend_daemon.hellos[0]
    assert (hello.name, hello.cameras, hello.versions) == ("top", ["main", "side"], [1])


def test_frames_offered_before_the_daemon_is_there_are_sent_once_it_is(pretend_daemon):
    pretend_daemon.stop()
    with FrameSource(pretend_daemon.endpoint, name="top") as source:
        seqs = [source.offer(IMAGE, budget_ms=2000) for _ in range(3)]
        assert source.link == ""
        pretend_daemon.start()
        assert [settled(source, seq).outcome for seq in seqs] == [Outcome.PASS] * 3


@pytest.mark.fault
def test_a_daemon_that_starts_again_is_found_within_a_second(source, pretend_daemon):
    settled(source, source.offer(IMAGE))
    for times in range(1, 4):
        pretend_daemon.stop()
        threading.Event().wait(0.35 * times)
        pretend_daemon.start()
        started_ns = clock.now_ns()
        settled(source, source.offer(IMAGE, budget_ms=3000))
        assert (clock.now_ns() - started_ns) / 1e9 < BACK_S
    assert source.counts["reconnects"] >= 3


@pytest.mark.fault
def test_silence_is_the_end_of_a_link(source, pretend_daemon):
    until(lambda: source.link)
    pretend_daemon.mute = True
    seq = source.offer(IMAGE, budget_ms=5000)
    until(lambda: source.link == "")
    pretend_daemon.mute = False
    started_ns = clock.now_ns()
    settled(source, seq)
    assert (clock.now_ns() - started_ns) / 1e9 < BACK_S
    assert source.link != "link-1"


@pytest.mark.fault
def test_every_number_is_settled_after_an_outage(source, pretend_daemon):
    """150 frames while nobody is there: more tombstones than may be open at once."""
    settled(source, source.offer(IMAGE))
    pretend_daemon.stop()
    for _ in range(150):
        source.offer(IMAGE, budget_ms=20)
    source.offer(IMAGE, budget_ms=3000)
    until(lambda: source.counts["expired"] == 150)
    pretend_daemon.start()
    assert source.wait_all(timeout_ms=3000)
    reasons = Counter(one.reason for one in source.records().values())
    assert reasons == {None: 2, Reason.TIMEOUT: 150}


@pytest.mark.fault
def test_the_sources_own_record_is_that_of_the_log(source, pretend_daemon):
    until(lambda: source.link)  # else the first link may be with the daemon that comes second
    for number in range(200):
        source.offer(IMAGE, trigger_id=number + 1, budget_ms=2000)
        if number % 60 == 59:
            until(lambda times=number // 60: source.counts["reconnects"] >= times)
            pretend_daemon.stop()
            pretend_daemon.start()
    assert source.wait_all(timeout_ms=5000)
    assert source.counts["reconnects"] >= 3
    told = {seq: (one.vseq, one.outcome) for seq, one in source.records().items()}
    kept = {seq: (vseq, answer[0]) for (_, seq), (vseq, answer) in pretend_daemon.log.items()}
    assert told == kept
    assert sorted(told) == list(range(1, 201))


def test_a_source_says_hello_again_when_it_is_told_to(source, pretend_daemon):
    until(lambda: source.link)
    pretend_daemon.nacks[1] = [Nack(why=Why.HELLO_FIRST)]
    settled(source, source.offer(IMAGE))
    assert len(pretend_daemon.hellos) == 2
    assert source.counts["nack_hello_first"] == 1


def test_what_is_settled_by_the_first_word_of_a_link_has_no_outcome(source, pretend_daemon):
    pretend_daemon.settle = False
    seq = source.offer(IMAGE, budget_ms=5000)
    until(lambda: pretend_daemon.seqs())
    pretend_daemon.stop()
    pretend_daemon.settled_upto = 1
    pretend_daemon.start()
    found = settled(source, seq)
    assert (found.vseq, found.outcome) == (None, None)
    assert source.counts["released"] == 1


@pytest.mark.parametrize("why", [Why.VERSION, Why.NOT_ALLOWED])
def test_a_refused_source_is_misuse_with_the_words_of_the_daemon(pretend_daemon, why):
    pretend_daemon.refuse = Nack(why=why, detail="top is not listed")
    pretend_daemon.stop()
    with FrameSource(pretend_daemon.endpoint, name="top") as source:
        seq = source.offer(IMAGE)
        pretend_daemon.start()
        with pytest.raises(Misuse, match=f"{why.value} top is not listed"):
            source.wait(seq, timeout_ms=2000)
        with pytest.raises(Misuse, match="'top' is refused"):
            source.offer(IMAGE)
        source.close(drain_s=0)


def test_a_refused_source_gets_in_once_it_is_listed(pretend_daemon, monkeypatch):
    monkeypatch.setattr(source_thread, "REFUSED_NS", 400 * clock.NS_PER_MS)
    pretend_daemon.refuse = Nack(why=Why.NOT_ALLOWED)
    with FrameSource(pretend_daemon.endpoint, name="top") as source:
        until(lambda: source.counts["nack_not_allowed"])
        assert source.link == ""
        pretend_daemon.refuse = None
        until(lambda: source.link)
        assert settled(source, source.offer(IMAGE)).vseq is not None


@pytest.mark.parametrize(
    "rubbish",
    [
        [b"x"],
        [b"", b"", b"", b"", b""],
        assured.build(Heartbeat())[:1],
        assured.build(Settled(1), Header(type=Type.SETTLED, seq=1, pixel_format=0xA5)),
        [*assured.build(Heartbeat(), Header(type=Type.HEARTBEAT)), b"more"],
    ],
)
def test_what_cannot_be_read_is_counted_and_never_raised(source, pretend_daemon, rubbish):
    until(lambda: source.link)
    pretend_daemon.raw.append([bytes(part) for part in rubbish])
    until(lambda: sum(source.counts[name] for name in ("unreadable", "unknown")))
    assert settled(source, source.offer(IMAGE)).vseq is not None
    assert sum(source.counts[name] for name in ("unreadable", "unknown")) == 1
    assert source.counts["reconnects"] == 0


def test_a_settlement_of_another_start_is_not_ours(source, pretend_daemon):
    pretend_daemon.settle = False
    seq = source.offer(IMAGE, budget_ms=5000)
    until(lambda: pretend_daemon.seqs())
    header = Header(type=Type.SETTLED, seq=seq, epoch=b"x" * 16, pixel_format=0x5A, codec=0xA5)
    pretend_daemon.raw.append([bytes(part) for part in assured.build(Settled(1), header)])
    until(lambda: source.counts["unknown"])
    assert source.unsettled == 1
    source.close(drain_s=0)


# --- waiting and leaving ---------------------------------------------------------------------


def test_waiting_ends_when_its_time_is_over(source, pretend_daemon):
    pretend_daemon.settle = False
    seq = source.offer(IMAGE, budget_ms=60_000)
    assert source.wait(seq, timeout_ms=20) is None
    assert not source.wait_all(timeout_ms=20)
    source.close(drain_s=0)
    with pytest.raises(Misuse, match="closed before this frame was settled"):
        source.wait(seq)


def test_a_number_that_was_never_given_is_misuse(source):
    with pytest.raises(Misuse, match="frame 5 was not offered; the last is 0"):
        source.wait(5)


def test_records_are_bounded(pretend_daemon):
    with FrameSource(pretend_daemon.endpoint, name="top", keep_records=3) as source:
        for _ in range(10):
            source.offer(IMAGE)
        assert source.wait_all(timeout_ms=2000)
        assert sorted(source.records()) == [8, 9, 10]
        with pytest.raises(Misuse, match="record of frame 1 has gone"):
            source.wait(1)


def test_settlements_are_handed_over_as_they_come(pretend_daemon):
    seen: list[Settlement] = []
    with FrameSource(pretend_daemon.endpoint, name="top", on_settled=seen.append) as source:
        seqs = [source.offer(IMAGE) for _ in range(20)]
        assert source.wait_all(timeout_ms=2000)
    assert sorted(one.seq for one in seen) == seqs


def test_close_waits_for_what_is_unsettled_and_says_bye(pretend_daemon):
    source = FrameSource(pretend_daemon.endpoint, name="top")
    for _ in range(20):
        source.offer(IMAGE)
    source.close()
    assert source.unsettled == 0
    until(lambda: pretend_daemon.byes == 1)
    with pytest.raises(Misuse, match="'top' is closed"):
        source.offer(IMAGE)
    source.close()


def test_close_does_not_wait_for_a_daemon_that_is_not_there(tmp_path):
    source = FrameSource(f"ipc://{tmp_path}/nobody", name="top")
    source.offer(IMAGE)
    started_ns = clock.now_ns()
    source.close(drain_s=0.05)
    assert (clock.now_ns() - started_ns) / 1e9 < BACK_S
    assert source.unsettled == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_raises_ends_the_source_and_is_told(pretend_daemon):
    def stumble(_):
        raise RuntimeError("of the caller")

    with FrameSource(pretend_daemon.endpoint, name="top", on_settled=stumble) as source:
        source.offer(IMAGE)
        until(lambda: not source._io.is_alive())
        with pytest.raises(Breakage, match="source 'top' broke"):
            source.offer(IMAGE)


def test_threads_may_offer_at_once(source):
    def offer_many():
        for _ in range(50):
            source.offer(IMAGE, budget_ms=5000)

    threads = [threading.Thread(target=offer_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert source.wait_all(timeout_ms=5000)
    assert sorted(source.records()) == list(range(1, 201))


def test_offer_does_not_wait_for_anybody(pretend_daemon):
    """A camera's thread is held for well under a millisecond, whether a daemon answers or not."""
    took = []
    pretend_daemon.stop()
    with FrameSource(pretend_daemon.endpoint, name="top", budget_ms=20) as source:
        for _ in range(300):
            started_ns = clock.now_ns()
            source.offer(IMAGE)
            took.append(clock.now_ns() - started_ns)
        source.close(drain_s=0)
    assert np.percentile(took, 95) < 1e6


# --- asyncio ---------------------------------------------------------------------------------


async def test_a_settlement_is_awaited(pretend_daemon):
    async with AsyncFrameSource(pretend_daemon.endpoint, name="top") as source:
        seqs = [source.offer(IMAGE, trigger_id=n + 1) for n in range(20)]
        seqs.append(source.tombstone("no_image"))
        found = await asyncio.gather(*(source.settled(seq) for seq in seqs))
        assert [one.seq for one in found] == seqs
        assert (await source.settled(1)).vseq == 1
        assert source.threaded.unsettled == 0


async def test_awaiting_can_be_given_up(pretend_daemon):
    pretend_daemon.settle = False
    async with AsyncFrameSource(pretend_daemon.endpoint, name="top") as source:
        seq = source.offer(IMAGE, budget_ms=60_000)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(source.settled(seq), 0.05)
        pretend_daemon.raw.append(
            [
                bytes(part)
                for part in assured.build(
                    Settled(7),
                    Header(
                        type=Type.SETTLED,
                        seq=seq,
                        epoch=source.threaded.epoch.bytes,
                        pixel_format=0xF0,
                        codec=0x0F,
                    ),
                )
            ]
        )
        assert (await source.settled(seq)).outcome is Outcome.FAIL


async def test_who_awaits_a_refused_source_is_told(pretend_daemon):
    pretend_daemon.refuse = Nack(why=Why.NOT_ALLOWED, detail="not listed")
    pretend_daemon.stop()
    source = AsyncFrameSource(pretend_daemon.endpoint, name="top")
    seq = source.offer(IMAGE)
    pretend_daemon.start()
    with pytest.raises(Misuse, match="not listed"):
        await source.settled(seq)
    await source.close(drain_s=0)
