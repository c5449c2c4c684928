"""The ingest process itself: how it starts, counts, keeps time and leaves."""

import signal
import socket

import cv2
import msgspec
import numpy as np
import pytest
import zmq

from edge_inspector import clock
from edge_inspector.channel import Alive, Failed, Ready, Stop
from edge_inspector.client import Publisher
from edge_inspector.errors import Breakage
from edge_inspector.ingest import IngestConfig
from edge_inspector.recipe import Recipe, Region
from edge_inspector.records import Reason
from edge_inspector.settings import load_settings
from edge_inspector.wire.plain import encode

GOOD = np.full((32, 32), 9, np.uint8)


def pull(endpoint, **keys):
    return {"type": "zmq-pull", "name": "line", "endpoint": endpoint, **keys}


def test_nothing_pushed_is_lost_in_silence(start_ingest, endpoint):
    """
    Every frame arrives as a head, in order, with its own pixels or the word that it was shed.

    Four of sixteen slots are in use; ingest hears of those given back on a thread of its own, which
    a busy box may hold up for a moment: then a frame is shed, and says so. Were they not given back,
    all but sixteen would be.
    """
    core = start_ingest(pull(endpoint), slots_granted=16)
    frames = np.random.default_rng(1).integers(0, 256, (8, 64, 64), dtype=np.uint8)
    shed = 0
    with Publisher(endpoint) as publisher:
        for number in range(2000):
            publisher.send(frames[number % 8], trigger_id=number + 1, seq=number)
            if number % 4 == 3:
                for expected in range(number - 3, number + 1):
                    head = core.frame()
                    assert head.key.seq == expected
                    if head.fault is Reason.SHED:
                        shed += 1
                    else:
                        assert np.array_equal(core.array(head), frames[expected % 8])
    assert shed < 1000


def test_a_burst_is_answered_whole(start_ingest, endpoint):
    core = start_ingest(pull(endpoint), slots_granted=4)
    with Publisher(endpoint) as publisher:
        for number in range(1, 2001):
            publisher.send(GOOD, trigger_id=number)
        heads = [core.frame() for _ in range(2000)]
    assert [head.trigger_id for head in heads] == list(range(1, 2001))
    assert {head.fault for head in heads} <= {None, Reason.SHED}
    shed = sum(head.fault is Reason.SHED for head in heads)
    core.message(Alive)
    core.message(Alive)
    assert core.counters["line.shed"] == shed


def test_slots_are_written_only_while_granted(start_ingest, endpoint):
    core = start_ingest(pull(endpoint), slots_granted=3)
    with Publisher(endpoint) as publisher:
        for number in range(4):
            publisher.send(np.full((8, 8), number, np.uint8))
        heads = [core.frame(keep=True) for _ in range(4)]
    assert sorted(head.slot for head in heads) == [-1, 0, 1, 2]
    for number, head in enumerate(heads[:3]):
        assert set(core.slots.view(head.slot, head.size)) == {number}


def test_unnumbered_frames_count_from_one(start_ingest, endpoint):
    core = start_ingest(pull(endpoint))
    with zmq.Context() as context, context.socket(zmq.PUSH) as plain:
        plain.connect(endpoint)
        for _ in range(3):
            plain.send_multipart(encode(GOOD))
        heads = [core.frame() for _ in range(3)]
    assert [head.key.seq for head in heads] == [1, 2, 3]
    assert not any(head.numbered for head in heads)
    assert len({head.key.epoch for head in heads}) == 1
    assert heads[0].digest == heads[1].digest


def test_each_start_is_a_new_epoch(start_ingest, tmp_path):
    epochs = set()
    for name in ("a", "b"):
        endpoint = f"ipc://{tmp_path}/{name}"
        core = start_ingest(pull(endpoint))
        with Publisher(endpoint) as publisher:
            publisher.send(GOOD)
            epochs.add(core.frame().key.epoch)
    assert len(epochs) == 2


def test_the_deadline_starts_at_the_capture_where_the_clock_is_ours(start_ingest, endpoint):
    core = start_ingest(pull(endpoint, clock="same-host"))
    with Publisher(endpoint) as publisher:
        publisher.send(GOOD, captured_ns=clock.utc_ns() - 50 * clock.NS_PER_MS)
        publisher.send(GOOD, captured_ns=clock.utc_ns() + 60_000 * clock.NS_PER_MS)
        past, future = core.frame(), core.frame()
    assert 50 <= (past.arrived_ns - past.time_zero_ns) / clock.NS_PER_MS < 5000
    assert future.time_zero_ns == future.arrived_ns


def test_a_foreign_clock_decides_nothing(start_ingest, endpoint):
    core = start_ingest(pull(endpoint))
    with Publisher(endpoint) as publisher:
        publisher.send(GOOD, captured_ns=1)
        head = core.frame()
    assert head.time_zero_ns == head.arrived_ns
    assert head.captured_utc_ns == 1


def test_old_frames_are_refused_by_age(start_ingest, endpoint):
    core = start_ingest(pull(endpoint, max_age_ms=2000))
    with Publisher(endpoint) as publisher:
        publisher.send(GOOD, captured_ns=clock.utc_ns() - 3000 * clock.NS_PER_MS)
        publisher.send(GOOD)
        publisher.send(GOOD, captured_ns=clock.utc_ns())
        old, ageless, young = (core.frame() for _ in range(3))
    assert (old.fault, ageless.fault, young.fault) == (Reason.TIMEOUT, Reason.BAD_INPUT, None)
    assert "limit is 2000 ms" in old.detail
    assert "captured_ns" in ageless.detail


@pytest.mark.parametrize(
    ("source", "refused", "said"),
    [
        (pull("tcp://0.0.0.0:5574"), True, "wildcard"),
        (pull("tcp://*:5574"), True, "wildcards are refused"),
        (pull("tcp://192.0.2.1:5574"), True, "allow ="),
        (pull("tcp://192.0.2.1:5574", allow=["10.0.0.0/8"]), False, "cannot bind"),
        (pull("tcp://127.0.0.1:5574", bind=False), True, "remove bind"),
        (pull("udp://127.0.0.1:5574"), True, "tcp://"),
        (pull("tcp://127.0.0.1:5574", allow=["10.0.0.0/99"]), True, "10.0.0.0/99"),
        (
            {"type": "folder", "name": "f", "uri": "file:///nowhere/at/all"},
            True,
            "neither a folder",
        ),
        ({"type": "nowhere.at_all:Source", "name": "p"}, False, "not installed"),
    ],
)
def test_a_source_that_cannot_start_says_why(start_ingest, source, refused, said):
    core = start_ingest(source)
    assert isinstance(core.started, Failed)
    assert core.started.refused is refused
    assert said in core.started.detail
    assert core.process.wait(5) == 1


def test_a_taken_port_is_named(start_ingest):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        endpoint = f"tcp://127.0.0.1:{holder.getsockname()[1]}"
        core = start_ingest(pull(endpoint))
    assert isinstance(core.started, Failed)
    assert endpoint in core.started.detail
    assert "Address already in use" in core.started.detail


def test_a_subscription_may_bind_for_publishers_that_connect(start_ingest, endpoint):
    source = {"type": "zmq-sub", "name": "line", "endpoint": endpoint, "bind": True}
    core = start_ingest(source)
    with Publisher(endpoint, "pub", bind=False) as publisher:
        assert publisher.wait_for_listener()
        publisher.send(GOOD, trigger_id=4)
        assert core.frame().trigger_id == 4


def test_the_address_list_lets_in_and_keeps_out(start_ingest, tmp_path, endpoint):
    core = start_ingest(pull(endpoint, allow=["127.0.0.0/8"]))
    with Publisher(endpoint) as publisher:
        publisher.send(GOOD)
        assert core.frame().fault is None
    other = endpoint[:-1] + ("1" if endpoint[-1] != "1" else "2")
    start_ingest(pull(other, allow=["10.0.0.0/8"]))
    with Publisher(other, timeout_ms=500) as stranger, pytest.raises(Breakage, match="500 ms"):
        stranger.send(GOOD)


def test_it_says_that_it_lives_each_forty_ms(start_ingest, endpoint):
    core = start_ingest(pull(endpoint))
    for _ in range(6):
        core.message(Alive)
    gaps_ms = np.diff(core.alive_ns) / clock.NS_PER_MS
    assert 20 < np.median(gaps_ms) < 250


@pytest.mark.parametrize("how", ["stop", "core is gone"])
def test_it_leaves_within_a_second(start_ingest, endpoint, how):
    core = start_ingest(pull(endpoint))
    began = clock.now_ns()
    if how == "stop":
        core.line.send(Stop())
    else:
        core.hang_up()
    assert core.process.wait(5) == 0
    assert clock.now_ns() - began < 1e9


def test_the_station_file_is_all_it_needs(tmp_path):
    (tmp_path / "station.toml").write_text(
        'station = "st1"\nrecipe = "recipe.toml"\n'
        '[[sources]]\ntype = "zmq-pull"\nname = "line"\nendpoint = "tcp://127.0.0.1:5574"\n'
        'camera = "top"\nallow = ["127.0.0.1"]\n'
    )
    settings = load_settings(tmp_path / "station.toml")
    region = Region(name="a", rect=(0, 0, 8, 8), camera="side", rules="r")
    recipe = Recipe(product="board", version=1, latency_budget_ms=50, regions=(region,))
    config = IngestConfig.of(settings, recipe)
    assert IngestConfig.decode(config.encode()) == msgspec_normal(config)
    assert config.cameras == ("side", "top")
    assert config.recipes == ("board",)


def msgspec_normal(config):
    """Tuples inside plain dictionaries read back from JSON as lists."""
    sources = tuple(msgspec.json.decode(msgspec.json.encode(one)) for one in config.sources)
    return msgspec.structs.replace(config, sources=sources)


def test_a_folder_a_video_and_a_camera_feed_one_station(start_ingest, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), GOOD)
    cv2.imwrite(str(folder / "b.bmp"), GOOD)
    (folder / "c.jpg").write_bytes(b"no image")
    video = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 50, (64, 48))
    for level in (10, 20, 30):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    core = start_ingest(
        {"type": "folder", "name": "images", "uri": folder.as_uri(), "rate_hz": 50},
        {"type": "folder", "name": "video", "uri": video.as_uri(), "rate_hz": 50},
        {"type": "camera", "name": "camera", "uri": video.as_uri(), "camera": "side"},
    )
    heads = [core.frame(keep=True) for _ in range(9)]
    by_source = {name: [h for h in heads if h.key.source == name] for name in ("images", "video")}
    assert [h.unit_id for h in by_source["images"]] == ["a.png", "b.bmp", "c.jpg"]
    assert [h.fault for h in by_source["images"]] == [None, None, Reason.BAD_INPUT]
    assert [h.unit_id for h in by_source["video"]] == [f"line.avi/{n}" for n in (1, 2, 3)]
    camera = [h for h in heads if h.key.source == "camera"]
    assert [(h.advisory, h.camera, h.key.seq) for h in camera] == [
        (True, "side", n) for n in (1, 2, 3)
    ]


def test_a_killed_ingest_leaves_nothing_that_stops_the_next(start_ingest, endpoint):
    core = start_ingest(pull(endpoint))
    with Publisher(endpoint) as publisher:
        publisher.send(GOOD)
        core.frame()
        core.process.send_signal(signal.SIGKILL)
        core.process.wait(5)
        assert core.message(Ready) is None
        again = start_ingest(pull(endpoint))
        publisher.send(GOOD, trigger_id=5)
        assert again.frame().trigger_id == 5
