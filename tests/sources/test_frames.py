"""A FRAME message as ingest reads it: names, layout, time, and what cannot be inspected."""

from collections import Counter

import cv2
import msgspec
import numpy as np
import pytest
import zmq

from edge_inspector.records import Reason
from edge_inspector.sources.arrival import Surroundings
from edge_inspector.sources.chunks import Chunks
from edge_inspector.sources.frames import MAX_AGE_US, Reader
from edge_inspector.sources.link import Link, Progress, Terms
from edge_inspector.wire.assured import FrameFacts, Hello, Message
from edge_inspector.wire.codes import FORMAT_NUMBERS, Flag, Refusal, Type, Why
from edge_inspector.wire.header import Header, digest
from edge_inspector.wire.layout import FORMATS

US = 1000
MS = 1_000_000
EPOCH = bytes(range(16))
NOW = 10**15
BUDGET_US = 100_000
MAX_BYTES = 100_000
IMAGE = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)
BODY = IMAGE.tobytes()
PNG = cv2.imencode(".png", IMAGE)[1].tobytes()
JPEG = cv2.imencode(".jpg", IMAGE)[1].tobytes()


@pytest.fixture
def counts():
    return Counter()


@pytest.fixture
def context():
    with zmq.Context() as context:
        yield context


@pytest.fixture
def around(context, counts):
    return Surroundings(
        context=context,
        recipe="board",
        cameras=frozenset({"main", "side", "top"}),
        recipes=frozenset({"board", "plate"}),
        max_bytes=MAX_BYTES,
        max_pixels=10_000,
        count=lambda source, kind: counts.update([f"{source}.{kind}"]),
        budget_us=BUDGET_US,
    )


@pytest.fixture
def reader(around):
    return Reader(around, "main", "board")


@pytest.fixture
def chunks(around, reader):
    return Chunks(around, reader)


@pytest.fixture
def link():
    return Link(
        peer=b"p",
        number=1,
        hello=Hello(name="node", versions=[1], cameras=["top", "side"]),
        epoch=EPOCH,
        progress=Progress(),
        terms=Terms(8, MAX_BYTES, 1000, MAX_BYTES),
        heard_ns=0,
    )


def header(body=BODY, **fields):
    return Header(
        **{
            "type": Type.FRAME,
            "flags": Flag.LAST,
            "epoch": EPOCH,
            "seq": 7,
            "width": 16,
            "height": 12,
            "pixel_format": FORMAT_NUMBERS["mono8"],
            "digest": digest(body),
            **fields,
        }
    )


def encoded(body, codec, **fields):
    return header(body, codec=codec, **{"pixel_format": 0, "width": 0, "height": 0, **fields})


class TestIdentity:
    def test_it_is_the_sources_own(self, reader, link):
        facts = FrameFacts(unit_id="A-7")
        arrival = reader.whole(link, header(trigger_id=40), facts, BODY, NOW)
        identity = arrival.identity
        assert (identity.unit_id, identity.trigger_id, identity.seq) == ("A-7", 40, 7)
        assert arrival.epoch == EPOCH.hex()
        assert (arrival.offered.source, arrival.offered.tombstone) == ("node", False)
        assert arrival.offered.digest == digest(BODY)
        assert (arrival.fault, bytes(arrival.pixels)) == (None, BODY)

    def test_trigger_zero_is_none(self, reader, link):
        assert reader.whole(link, header(), FrameFacts(), BODY, NOW).identity.trigger_id is None

    @pytest.mark.parametrize(
        ("number", "camera"), [(0, "main"), (1, "top"), (2, "side"), (3, None), (65535, None)]
    )
    def test_cameras_count_from_one_as_hello_lists_them(self, reader, link, number, camera):
        arrival = reader.whole(link, header(camera=number), FrameFacts(), BODY, NOW)
        if camera:
            assert (arrival.camera, arrival.fault) == (camera, None)
        else:
            assert arrival.fault is Reason.BAD_INPUT
            assert f"camera number {number}; there are 2: top, side" in arrival.detail

    @pytest.mark.parametrize(
        ("number", "recipe"), [(0, "board"), (1, "board"), (2, "plate"), (3, None)]
    )
    def test_recipes_count_from_one_as_welcome_lists_them(self, reader, link, number, recipe):
        assert reader.recipes == ["board", "plate"]
        arrival = reader.whole(link, header(recipe=number), FrameFacts(), BODY, NOW)
        if recipe:
            assert (arrival.recipe, arrival.fault) == (recipe, None)
        else:
            assert arrival.fault is Reason.BAD_INPUT
            assert "recipe number 3; there are 2" in arrival.detail

    def test_the_station_names_the_recipe_of_number_zero(self, around, link):
        arrival = Reader(around, "main", "plate").whole(link, header(), FrameFacts(), BODY, NOW)
        assert arrival.recipe == "plate"

    def test_control_characters_name_no_unit(self, reader, link):
        arrival = reader.whole(link, header(), FrameFacts(unit_id="a\x1b[2J"), BODY, NOW)
        assert (arrival.fault, arrival.identity.unit_id) == (Reason.BAD_INPUT, None)
        assert "printable" in arrival.detail


class TestTime:
    def arrival(self, reader, link, age_us, **fields):
        return reader.whole(link, header(**fields), FrameFacts(age_us=age_us), BODY, NOW)

    def test_it_began_before_the_arrival_by_age_and_round_trip(self, reader, link):
        assert self.arrival(reader, link, 3000).offered.time_zero_ns == NOW - 3 * MS
        link.pong(link.ping(NOW), NOW + 2 * MS)
        assert self.arrival(reader, link, 3000).offered.time_zero_ns == NOW - 5 * MS

    @pytest.mark.parametrize(
        ("told_us", "due_us"), [(0, 100_000), (30_000, 30_000), (10**9, 100_000)]
    )
    def test_the_deadline_is_arrival_less_age_plus_the_smaller_budget(
        self, reader, link, told_us, due_us
    ):
        due_ns = reader.due_ns(link, header(budget_us=told_us), FrameFacts(age_us=4000), NOW)
        assert due_ns == NOW - 4 * MS + due_us * US
        offered = self.arrival(reader, link, 4000, budget_us=told_us).offered
        assert offered.budget_us == (told_us or None)

    def test_a_negative_age_is_none_and_counted_once(self, reader, link, counts):
        assert self.arrival(reader, link, -5).offered.time_zero_ns == NOW
        assert counts == {"node.negative_age": 1}

    @pytest.mark.parametrize("age_us", [MAX_AGE_US + 1, 2**63, 2**64 - 1])
    def test_an_absurd_age_is_still_a_time_that_a_record_holds(self, reader, link, age_us):
        time_zero_ns = self.arrival(reader, link, age_us).offered.time_zero_ns
        assert time_zero_ns == NOW - MAX_AGE_US * US
        assert msgspec.msgpack.encode(time_zero_ns)


class TestRawPixels:
    @pytest.mark.parametrize("name", FORMAT_NUMBERS)
    def test_every_format_is_taken_at_its_size_only(self, reader, link, name):
        sample, channels = FORMATS[name]
        told = header(width=6, height=4, pixel_format=FORMAT_NUMBERS[name])
        for extra, fault in ((0, None), (1, Reason.BAD_INPUT), (-1, Reason.BAD_INPUT)):
            body = bytes(4 * 6 * sample * channels + extra)
            arrival = reader.whole(link, told, FrameFacts(), body, NOW)
            assert arrival.fault is fault
        good = reader.whole(link, told, FrameFacts(), bytes(24 * sample * channels), NOW)
        assert (good.layout.pixel_format, good.layout.codec) == (name, "raw")
        assert (good.layout.height, good.layout.width, good.layout.channels) == (4, 6, channels)

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"pixel_format": 0}, "pixel format 0"),
            ({"pixel_format": 7}, "pixel format 7"),
            ({"pixel_format": 255}, "pixel format 255"),
            ({"codec": 3}, "codec 3; known are raw, jpeg, png"),
            ({"width": 0}, "0 x 12 pixels take 0 bytes"),
            ({"height": 0}, "16 x 0"),
            ({"width": 0, "height": 0}, "0 x 0"),
            ({"width": 65535, "height": 65535}, "the limit is 10000 pixels"),
            ({"width": 16, "height": 13}, "take 208 bytes; 192 came"),
            ({"stride_16": 65535}, "192 came"),
        ],
    )
    def test_what_the_header_cannot_mean(self, reader, link, fields, said):
        arrival = reader.whole(link, header(**fields), FrameFacts(), BODY, NOW)
        assert (arrival.fault, arrival.pixels) == (Reason.BAD_INPUT, None)
        assert said in arrival.detail
        assert arrival.identity.seq == 7

    def test_no_pixels_are_no_frame(self, reader, link):
        told = header(b"", width=0, height=0)
        assert reader.whole(link, told, FrameFacts(), b"", NOW).fault is Reason.BAD_INPUT

    def test_total_len_must_be_what_came(self, reader, link):
        for total, fault in ((192, None), (191, Reason.BAD_INPUT), (10**12, Reason.BAD_INPUT)):
            facts = FrameFacts(total_len=total)
            assert reader.whole(link, header(), facts, BODY, NOW).fault is fault


class TestStride:
    def padded(self, stride, width=10):
        rows = np.full((12, stride), 255, np.uint8)
        rows[:, :width] = IMAGE[:, :width]
        return rows.tobytes()

    def test_padding_between_rows_is_taken_away(self, reader, link):
        body = self.padded(32)
        told = header(body, width=10, stride_16=2)
        arrival = reader.whole(link, told, FrameFacts(), body, NOW)
        tight = IMAGE[:, :10].tobytes()
        assert (arrival.fault, bytes(arrival.pixels)) == (None, tight)
        assert arrival.offered.digest == digest(tight)

    def test_padding_is_no_place_to_hide_other_pixels(self, reader, link):
        """The worker sees tight rows only, so the digest over all that came is checked here."""
        body = self.padded(32)
        arrival = reader.whole(link, header(BODY, width=10, stride_16=2), FrameFacts(), body, NOW)
        assert arrival.fault is Reason.BAD_INPUT
        assert "digest" in arrival.detail

    def test_a_row_is_no_longer_than_its_stride(self, reader, link):
        body = bytes(12 * 16)
        told = header(body, width=17, stride_16=1)
        arrival = reader.whole(link, told, FrameFacts(), body, NOW)
        assert "stride of 16 bytes; a row has 17" in arrival.detail


class TestEncoded:
    @pytest.mark.parametrize(("body", "codec", "name"), [(JPEG, 1, "jpeg"), (PNG, 2, "png")])
    def test_the_image_says_its_size_and_the_header_may(self, reader, link, body, codec, name):
        for fields in ({}, {"width": 16, "height": 12}):
            told = encoded(body, codec, **fields)
            arrival = reader.whole(link, told, FrameFacts(), body, NOW)
            assert (arrival.fault, arrival.layout.codec) == (None, name)

    @pytest.mark.parametrize(
        ("body", "codec", "fields", "said"),
        [
            (PNG, 1, {}, "the header tells jpeg"),
            (JPEG, 2, {}, "the header tells png"),
            (b"GIF89a" + bytes(90), 1, {}, "neither JPEG"),
            (b"", 1, {}, "neither JPEG"),
            (JPEG[:-9], 1, {}, "was cut"),
            (JPEG, 1, {"pixel_format": 3}, "pixel format 3"),
            (PNG, 2, {"width": 16, "height": 13}, "16 x 13 pixels; the png has 16 x 12"),
        ],
    )
    def test_what_it_cannot_be(self, reader, link, body, codec, fields, said):
        told = encoded(body, codec, **fields)
        arrival = reader.whole(link, told, FrameFacts(), body, NOW)
        assert arrival.fault is Reason.BAD_INPUT
        assert said in arrival.detail


class TestTombstones:
    @pytest.mark.parametrize(
        ("why", "reason"),
        [
            ("no_credit", Reason.SHED),
            ("camera_fault", Reason.CAMERA_FAULT),
            ("no_image", Reason.NO_IMAGE),
            ("expired", Reason.TIMEOUT),
        ],
    )
    def test_each_has_its_reason(self, reader, link, why, reason):
        told = header(flags=Flag.TOMBSTONE, trigger_id=4, camera=1)
        arrival = reader.tombstone(link, told, FrameFacts(why=why, unit_id="u"), NOW)
        assert (arrival.fault, arrival.pixels, arrival.camera) == (reason, None, "top")
        assert (arrival.identity.unit_id, arrival.identity.trigger_id) == ("u", 4)
        assert why in arrival.detail
        assert arrival.offered.tombstone
        assert arrival.offered.digest == told.digest, "of the pixels that it stands for"
        assert not arrival.offered.repeat

    def test_one_may_stand_for_a_repeat(self, reader, link):
        facts = FrameFacts(why="expired", repeat=True)
        assert reader.tombstone(link, header(flags=Flag.TOMBSTONE), facts, NOW).offered.repeat

    @pytest.mark.parametrize("fields", [{"payload_len": 5}, {}])
    def test_one_with_pixels_or_without_a_cause_is_refused(self, reader, link, fields):
        facts = FrameFacts(why="no_image" if fields else None)
        with pytest.raises(Refusal, match="tombstone"):
            reader.tombstone(link, header(flags=Flag.TOMBSTONE, **fields), facts, NOW)


class TestChunks:
    """Two rows of the picture each."""

    def send(self, chunks, link, offset, body=None, last=False, now=NOW, **facts):
        body = BODY[offset : offset + 32] if body is None else body
        told = header(BODY, flags=Flag.LAST if last else 0, offset=offset, seq=facts.pop("seq", 7))
        link.charge(told.seq, len(body))
        named = FrameFacts(**{"total_len": 192, **facts})
        return chunks.take(link, Message(told, b"", body), named, now)

    def all_of(self, chunks, link, **facts):
        for offset in range(0, 160, 32):
            assert self.send(chunks, link, offset, **facts) is None
        return self.send(chunks, link, 160, last=True, **facts)

    def free(self, link):
        return (link.used[0] - link.returned[0], link.used[1] - link.returned[1])

    def test_together_they_are_the_frame(self, chunks, link):
        arrival = self.all_of(chunks, link)
        assert (arrival.fault, bytes(arrival.pixels)) == (None, BODY)
        assert arrival.offered.digest == digest(BODY)
        assert (self.free(link), link.partials) == ((0, 0), {})

    def test_credit_stays_out_until_the_last_one(self, chunks, link):
        self.send(chunks, link, 0)
        self.send(chunks, link, 32)
        assert self.free(link) == (2, 64)

    def test_two_frames_may_be_on_their_way(self, chunks, link):
        for offset in (0, 32, 64):
            self.send(chunks, link, offset, seq=1)
            self.send(chunks, link, offset, seq=2)
        assert set(link.partials) == {1, 2}
        assert self.free(link) == (6, 192)

    def test_time_began_with_the_first(self, chunks, link):
        self.send(chunks, link, 0, now=NOW, age_us=1000)
        for offset in range(32, 160, 32):
            self.send(chunks, link, offset, now=NOW + 50 * MS, age_us=51_000)
        arrival = self.send(chunks, link, 160, last=True, now=NOW + 60 * MS)
        assert arrival.arrived_ns == NOW
        assert arrival.offered.time_zero_ns == NOW - MS

    def test_a_hole_is_refused_once_and_the_right_chunk_still_taken(self, chunks, link, counts):
        self.send(chunks, link, 0)
        with pytest.raises(Refusal, match="byte 64 of frame 7") as refused:
            self.send(chunks, link, 64)
        assert refused.value.why is Why.BAD_HEADER
        assert self.send(chunks, link, 96) is None
        assert counts == {"node.stray_chunk": 1}
        assert self.free(link) == (1, 32)
        for offset in range(32, 160, 32):
            self.send(chunks, link, offset)
        assert self.send(chunks, link, 160, last=True).fault is None

    def test_one_without_a_beginning_is_refused(self, chunks, link):
        with pytest.raises(Refusal, match="byte 32"):
            self.send(chunks, link, 32, last=True)
        assert self.free(link) == (0, 0)

    @pytest.mark.parametrize("offset", [0, 32])
    def test_an_empty_one_holds_nothing(self, chunks, link, offset):
        with pytest.raises(Refusal, match="empty"):
            self.send(chunks, link, offset, body=b"")
        assert (self.free(link), link.partials) == ((0, 0), {})

    def test_the_first_one_again_begins_again(self, chunks, link):
        self.send(chunks, link, 0)
        self.send(chunks, link, 32)
        assert self.all_of(chunks, link).fault is None
        assert self.free(link) == (0, 0)

    @pytest.mark.parametrize("total", [None, 0, MAX_BYTES + 1, 10**12, 2**63 - 1])
    def test_a_length_that_no_frame_has_is_recorded_at_once(self, chunks, link, counts, total):
        arrival = self.send(chunks, link, 0, total_len=total)
        assert (arrival.fault, arrival.pixels) == (Reason.BAD_INPUT, None)
        assert f"total_len {total}; the limits are 1 to 100000" in arrival.detail
        assert self.send(chunks, link, 32, total_len=total) is None
        assert counts == {"node.stray_chunk": 1}
        assert self.free(link) == (0, 0)

    def test_more_than_was_told_is_bad_input(self, chunks, link):
        self.send(chunks, link, 0, total_len=40)
        arrival = self.send(chunks, link, 32, total_len=40)
        assert arrival.fault is Reason.BAD_INPUT
        assert "chunks of 64 bytes for a frame of 40" in arrival.detail
        assert self.free(link) == (0, 0)

    def test_less_than_was_told_is_bad_input(self, chunks, link):
        self.send(chunks, link, 0)
        arrival = self.send(chunks, link, 32, last=True)
        assert arrival.fault is Reason.BAD_INPUT
        assert "chunks of 64 bytes for a frame of 192" in arrival.detail

    def test_not_whole_by_the_deadline_is_no_image_once(self, chunks, link):
        self.send(chunks, link, 0, age_us=1000)
        due_ns = NOW - MS + BUDGET_US * US
        assert chunks.overdue(link, due_ns - 1) == []
        [arrival] = chunks.overdue(link, due_ns)
        assert arrival.fault is Reason.NO_IMAGE
        assert "only 32 of 192 bytes came" in arrival.detail
        assert chunks.overdue(link, due_ns + 10**9) == []
        assert self.free(link) == (0, 0)

    def test_one_that_begins_too_late_is_a_timeout(self, chunks, link):
        arrival = self.send(chunks, link, 0, age_us=BUDGET_US)
        assert arrival.fault is Reason.TIMEOUT

    def test_no_more_memory_than_came(self, chunks, link):
        self.send(chunks, link, 0, total_len=MAX_BYTES)
        part = link.partials[7]
        assert sum(len(piece) for piece in part.pieces) == 32
