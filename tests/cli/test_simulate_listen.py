"""`simulate` and `listen`, called as the command line calls them."""

import json
import socket
import threading

import cv2
import numpy as np
import pytest
import zmq

from edge_inspector import settings
from edge_inspector.cli.main import main
from edge_inspector.records import Committed, FrameKey, Outcome, Reason, Verdict
from edge_inspector.sinks.zmq import ZmqSink
from edge_inspector.wire.incumbent import incumbent_text
from edge_inspector.wire.plain import Rules, decode

RULES = Rules(
    camera="main",
    recipe="board",
    cameras=frozenset({"main", "side"}),
    recipes=frozenset({"board"}),
)


@pytest.fixture
def endpoint():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def pull(endpoint):
    with zmq.Context() as context, context.socket(zmq.PULL) as opened:
        opened.linger = 0
        opened.rcvtimeo = 5000
        opened.bind(endpoint)
        yield opened


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "images"
    path.mkdir()
    for level, name in enumerate(("a.png", "b.bmp", "c.jpg")):
        cv2.imwrite(str(path / name), np.full((8, 8, 3), level * 100, np.uint8))
    return path


def simulate(scene, endpoint, *words):
    given = ["simulate", str(scene), "--to", endpoint, "--rate", "0", *words]
    return main([str(word) for word in given])


def test_a_folder_is_sent_once_with_ids_and_truth(folder, endpoint, pull, tmp_path, capsys):
    truth = tmp_path / "truth.jsonl"
    words = ("--first", 11, "--truth", truth, "--camera", "side", "--json")
    assert simulate(folder, endpoint, *words) == 0
    frames = [decode(pull.recv_multipart(), RULES) for _ in range(3)]
    assert [frame.identity.trigger_id for frame in frames] == [11, 12, 13]
    assert {frame.camera for frame in frames} == {"side"}
    assert all(frame.identity.captured_ns for frame in frames)
    assert [frame.layout.codec for frame in frames] == ["png", "raw", "jpeg"]
    rows = [json.loads(line) for line in truth.read_text().splitlines()]
    assert [row["unit_id"] for row in rows] == [frame.identity.unit_id for frame in frames]
    assert [row["scene"] for row in rows] == ["a.png", "b.bmp", "c.jpg"]
    assert json.loads(capsys.readouterr().out)["sent"] == 3


def test_a_folder_is_shown_again_when_more_units_are_asked_for(folder, endpoint, pull):
    assert simulate(folder, endpoint, "--units", 5) == 0
    frames = [decode(pull.recv_multipart(), RULES) for _ in range(5)]
    assert len({frame.identity.unit_id for frame in frames}) == 5
    assert bytes(frames[0].pixels) == bytes(frames[3].pixels)


def test_an_incumbent_speaks_with_each_unit_of_a_scene(endpoint, pull, tmp_path):
    truth = tmp_path / "truth.jsonl"
    words = ("--units", 40, "--seed", 3, "--defect-rate", 0.5, "--truth", truth)
    assert simulate("connector", endpoint, *words, "--incumbent-errors", 0.1) == 0
    said = [decode(pull.recv_multipart(), RULES).incumbent for _ in range(40)]
    rows = [json.loads(line) for line in truth.read_text().splitlines()]
    assert [incumbent_text(one) for one in said if one] == [row["incumbent"] for row in rows]
    wrong = [row for row in rows if (row["label"] == "good") != (row["incumbent"] == "pass")]
    assert 1 <= len(wrong) <= 12  # 4 expected, 4 standard deviations of 1.9
    assert {row["incumbent"] for row in rows} >= {"pass", "fail:missing_pin"}


def test_a_table_of_pictures_plays_at_a_rate_in_one_size(folder, endpoint, pull):
    table = folder / "split.csv"
    table.write_text("path,label,split\na.png,good,test\nb.bmp,dent,test\nc.jpg,good,val\n")
    words = ("--units", 30, "--defect-rate", 0.3, "--incumbent-errors", 0, "--size", "16x12")
    assert simulate(table, endpoint, *words, "--split", "test", "--jitter", 1) == 0
    frames = [decode(pull.recv_multipart(), RULES) for _ in range(30)]
    assert {(frame.layout.width, frame.layout.height) for frame in frames} == {(16, 12)}
    assert {incumbent_text(one.incumbent) for one in frames if one.incumbent} == {
        "pass",
        "fail:dent",
    }
    assert len({bytes(frame.pixels) for frame in frames}) == 30


def test_two_runs_name_different_units(folder, endpoint, pull):
    triggers = []
    for _ in range(2):
        assert simulate(folder, endpoint) == 0
        triggers += [decode(pull.recv_multipart(), RULES).identity.trigger_id for _ in range(3)]
    assert len(set(triggers)) == 6


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nowhere", "--to", "tcp://127.0.0.1:1"], 2, "'nowhere' is neither"),
        (["bga", "--to", "tcp://127.0.0.1:1", "--rate", "-1"], 2, "--rate -1"),
        (["bga", "--to", "tcp://127.0.0.1:1", "--units", "0"], 2, "1 or more"),
        (["bga", "--to", "tcp://127.0.0.1:1", "--incumbent-errors", "2"], 2, "0 to 1, not 2"),
    ],
)
def test_wrong_use_is_said_in_one_line(words, status, said, capsys):
    assert main(["simulate", *words]) == status
    assert said in capsys.readouterr().err


def test_an_image_that_cannot_be_read_is_named(folder, endpoint, pull, capsys):
    (folder / "aa.bmp").write_bytes(b"rubbish")
    assert simulate(folder, endpoint) == 2
    assert "aa.bmp" in capsys.readouterr().err


@pytest.fixture
def publishing(endpoint):
    """A sink that publishes these rows until the test is over."""
    sink = ZmqSink(settings.ZmqSink(type="zmq", endpoint=endpoint), "st1")
    over = threading.Event()
    threads = []

    def start(*rows):
        def publish():
            for row in rows:
                if over.wait(0.3):
                    return
                sink.publish(row)

        threads.append(threading.Thread(target=publish))
        threads[0].start()

    yield start
    over.set()
    for thread in threads:
        thread.join()
    sink.close()


def row(vseq, outcome=Outcome.PASS, **keys):
    verdict = Verdict(
        unit_key=f"u:st1/A-{vseq}",
        station="st1",
        outcome=outcome,
        frames=(FrameKey("line", "e", vseq),),
        recipe="board",
        unit_id=f"A-{vseq}",
        time_zero_ns=1_000_000,
        deadline_ns=9_000_000,
        **keys,
    )
    return Committed(vseq=vseq, verdict=verdict, body=b"", chain=0, committed_ns=4_500_000)


def test_each_verdict_is_a_line(endpoint, publishing, capsys):
    publishing(
        row(1),
        row(2, Outcome.FAIL, defect_class="missing", anomaly_score=4.5, threshold=3.0),
        row(3, Outcome.UNINSPECTED, reason=Reason.TIMEOUT, detail="no worker", advisory=True),
    )
    assert main(["listen", endpoint, "--count", "3", "--seconds", "20"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "#1 A-1 pass 3.5 ms",
        "#2 A-2 fail(missing) score 4.5/3 3.5 ms",
        "#3 A-3 uninspected(timeout) 3.5 ms advisory  no worker",
    ]


def test_loss_is_said_and_is_a_finding(endpoint, publishing, capsys):
    publishing(row(1), row(5))
    assert main(["listen", endpoint, "--count", "2", "--json", "--seconds", "20"]) == 1
    said = capsys.readouterr()
    assert [json.loads(line)["vseq"] for line in said.out.splitlines()] == [1, 5]
    assert "3 verdicts missed before #5" in said.err


def test_verdicts_that_do_not_come_are_a_finding(endpoint, capsys):
    assert main(["listen", endpoint, "--count", "1", "--seconds", "0.1"]) == 1
    assert capsys.readouterr().out == ""
