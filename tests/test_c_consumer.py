"""The line controller in C, built and run against a ROUTER that plays the daemon."""

import random
import shutil
import subprocess
import threading
import time
from pathlib import Path

import msgspec
import pytest
import xxhash
import zmq

from edge_inspector import clock, records
from edge_inspector.records import FrameKey, Outcome, Reason, Verdict
from edge_inspector.wire import assured, codes, header, sockets
from edge_inspector.wire.assured import Ack, Heartbeat, Nack, Subscribe, Subscribed, Truncated
from edge_inspector.wire.codes import Flag, Type, Why
from edge_inspector.wire.header import Header
from tests.delivery.conftest import Core, Store
from tests.golden import vectors

SOURCE = Path(__file__).parent.parent / "deploy" / "examples" / "consumer.c"
FLAGS = ["-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pedantic"]
CHECKED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
DRIVER = """
#define main consumer_main
#include "consumer.c"
#undef main
int main(void)
{
    static byte data[MAX_METADATA];
    for (size_t i = 0; i < MAX_METADATA; i++)
        data[i] = (byte)(i * 131 + (i >> 8));
    for (size_t n = 0; n <= MAX_METADATA; n++)
        printf("%016" PRIx64 " %08" PRIx32 "\\n", xxh3(data, n), chained(7, data, n));
    return 0;
}
"""
PATIENCE_S = 10.0
MS = clock.NS_PER_MS
pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None, reason="no C compiler; tests/setup_c.sh installs one"
)


def compiled(source, program, *more):
    command = ["cc", *FLAGS, *more, f"-I{SOURCE.parent}", str(source), "-o", str(program), "-lzmq"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return program


@pytest.fixture(scope="module")
def sanitizers(tmp_path_factory):
    """Flags that make a wrong memory access end the program, where the compiler has them."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.c").write_text("#include <zmq.h>\nint main(void) { return 0; }\n")
    for flags in (CHECKED, []):
        command = ["cc", *flags, str(folder / "probe.c"), "-o", str(folder / "probe"), "-lzmq"]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return flags
    pytest.skip("no zmq.h or no libzmq to link with; tests/setup_c.sh installs them")


@pytest.fixture(scope="module")
def program(tmp_path_factory, sanitizers):
    return compiled(SOURCE, tmp_path_factory.mktemp("c") / "consumer", *sanitizers)


class Daemon:
    """Commits, sends and hears as a daemon does; `lines` is what the consumer printed."""

    def __init__(self, socket, endpoint):
        self.socket = socket
        self.endpoint = endpoint
        self.lines: list[str] = []
        self.problems: list[str] = []
        self.heard: list[tuple[bytes, object]] = []
        self.peer = b""
        self.head, self.chain = 40, 0
        self.history_from, self.history_chain = 41, 0
        self.beating = True
        self.stamped = True
        self.answers = True
        self._beat_ns = 0

    def pump(self, until, seconds=PATIENCE_S):
        """Serve until something holds; fails when it does not come to that in time."""
        give_up = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < give_up, (self.lines, self.problems, self.heard[-5:])
            self.step()

    def step(self):
        now = clock.now_ns()
        if self.peer and self.beating and now - self._beat_ns >= 50 * MS:
            self._beat_ns = now
            self.tell(Heartbeat(head_vseq=self.head, state="ready"), Type.HEARTBEAT)
        if self.socket.poll(5):
            peer, *parts = self.socket.recv_multipart()
            said = assured.read(assured.split(parts))
            self.heard.append((peer, said))
            if isinstance(said, Subscribe) and self.answers:
                self.peer = peer
                self.subscribed()

    def serve(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step()

    def subscribed(self):
        said = Subscribed(
            link="1",
            head=self.head,
            oldest=1,
            acked=self.history_from - 1,
            live_from=self.head + 1,
            live_chain=self.chain,
            history_from=min(self.history_from, self.head + 1),
            history_chain=self.history_chain if self.history_from <= self.head else self.chain,
        )
        self.tell(said, Type.SUBSCRIBED)
        self._beat_ns = 0
        self.step()

    def tell(self, metadata, kind):
        stamp = clock.now_ns() if self.stamped else 0
        self.send(assured.build(metadata, Header(type=kind, t_mono_ns=stamp)))

    def send(self, parts):
        self.socket.send_multipart([self.peer, *parts])

    def of(self, kind):
        return [said for _, said in self.heard if isinstance(said, kind)]

    def commit(self, meaning=Outcome.PASS, **changes):
        """The message of the next verdict, which is in the log from now on."""
        self.head += 1
        verdict = verdict_of(self.head, meaning, changes)
        body = msgspec.msgpack.encode(verdict)
        self.chain = records.chained(self.chain, body)
        code = codes.CODES[meaning]
        head = Header(
            type=Type.VERDICT,
            seq=self.head,
            t_mono_ns=clock.now_ns(),
            pixel_format=code,
            codec=code ^ 0xFF,
            digest=header.digest(body),
            offset=self.chain,
        )
        return assured.assemble(head, body)

    def expect(self, *lines):
        """These are the next lines and the only ones so far."""
        self.pump(lambda: len(self.lines) >= len(lines))
        found, self.lines[:] = self.lines[:], []
        assert tuple(found) == lines


def verdict_of(vseq, meaning, changes):
    reason = meaning if isinstance(meaning, Reason) else None
    values = {
        "unit_key": f"t:st1/0/{vseq}",
        "station": "st1",
        "outcome": Outcome.UNINSPECTED if reason else meaning,
        "reason": reason,
        "frames": (FrameKey("line-1", "e", vseq),),
        "recipe": "board",
        "trigger_id": vseq,
        "time_zero_ns": clock.now_ns(),
        "valid_us": 5_000_000,
        "vseq": vseq,
        "anomaly_score": -0.5,
        "stages_us": {"infer": 70_000},
        "detail": "x" * 300,
    }
    return Verdict(**(values | changes))


def changed(parts, **fields):
    """Other header fields under a right CRC."""
    said = header.unpack(parts[0])
    return [header.pack(msgspec.structs.replace(said, **fields)), *parts[1:]]


@pytest.fixture
def daemon(tmp_path):
    with zmq.Context() as context:
        socket = sockets.open_socket(context, zmq.ROUTER, hwm=4096, max_bytes=65536)
        with socket:
            endpoint = f"ipc://{tmp_path}/v"
            sockets.bind(socket, endpoint)
            yield Daemon(socket, endpoint)


@pytest.fixture
def launch(program):
    """Starts a consumer of `endpoint`, and collects what it prints."""
    running: list[tuple[subprocess.Popen[str], list[threading.Thread]]] = []

    def begin(endpoint, lines, problems, *count):
        command = [str(program), endpoint, "gate", "st1", *map(str, count)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        threads = [
            threading.Thread(target=copy, args=pair)
            for pair in ((process.stdout, lines), (process.stderr, problems))
        ]
        for thread in threads:
            thread.start()
        running.append((process, threads))
        return process

    yield begin
    for process, threads in running:
        process.terminate()
        process.wait(10)
        for thread in threads:
            thread.join()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def start(launch, daemon):
    """Starts a consumer of `daemon`."""
    return lambda *count: launch(daemon.endpoint, daemon.lines, daemon.problems, *count)


def copy(stream, lines):
    for line in stream:
        lines.append(line.rstrip("\n"))


@pytest.fixture
def gate(daemon, start):
    """A consumer that has subscribed, hears heartbeats and has let one unit through."""
    start()
    daemon.pump(lambda: daemon.peer)
    daemon.send(daemon.commit())
    daemon.expect("PASS t:st1/0/41")
    return daemon


def test_digest_and_chain_are_those_of_the_protocol(tmp_path, sanitizers):
    (tmp_path / "driver.c").write_text(DRIVER)
    driver = compiled(tmp_path / "driver.c", tmp_path / "driver", *sanitizers)
    said = subprocess.run([driver], capture_output=True, text=True, check=True).stdout.split("\n")
    data = bytes((i * 131 + (i >> 8)) & 0xFF for i in range(4096))
    for size in range(4097):
        digest = xxhash.xxh3_64_hexdigest(data[:size])
        assert said[size] == f"{digest} {records.chained(7, data[:size]):08x}"


def test_it_asks_for_both_lanes_from_behind_its_cursor(gate):
    asked = Subscribe(consumer="gate", start=0, lanes=2, stations=["st1"])
    assert gate.of(Subscribe) == [asked]


def test_every_outcome_of_the_golden_vectors_is_understood(daemon, start):
    """Their clock stands still, so heartbeats without a time do not show them to be late."""
    daemon.stamped = False
    start()
    daemon.pump(lambda: daemon.peer)
    expected = []
    for part, meaning in enumerate(codes.CODES, start=1001):
        daemon.send(vectors.parts(f"verdict_{meaning.value}"))
        passed = meaning is Outcome.PASS
        unit = f"t:st1/2/{part}"
        expected.append(f"PASS {unit}" if passed else f"REJECT {unit} {meaning.value}")
    daemon.expect(*expected)
    assert len(expected) == 11


def test_it_acts_on_good_verdicts_acknowledges_all_and_ends(daemon, start):
    process = start(100)
    daemon.pump(lambda: daemon.peer)
    for number in range(100):
        daemon.send(daemon.commit(Outcome.FAIL if number % 10 == 9 else Outcome.PASS))
    daemon.pump(lambda: process.poll() is not None and Ack(140, 140) in daemon.of(Ack))
    assert process.returncode == 0
    assert sum(line.startswith("PASS ") for line in daemon.lines) == 90
    assert sum(line.endswith(" fail") for line in daemon.lines) == 10
    uptos = [ack.upto for ack in daemon.of(Ack)]
    assert uptos == sorted(uptos)
    assert max(b - a for a, b in zip([40, *uptos], uptos, strict=False)) <= 32


def test_an_ack_comes_within_50_ms(gate):
    """The least of five tries counts: a busy box may delay any one."""
    waits = []
    for _ in range(5):
        sent = time.monotonic()
        gate.send(gate.commit())
        gate.pump(lambda: gate.of(Ack) and gate.of(Ack)[-1].upto == gate.head)
        waits.append(time.monotonic() - sent)
    assert min(waits) <= 0.05


def test_it_says_each_100_ms_that_it_lives(gate):
    before = len(gate.of(Heartbeat))
    gate.serve(1.05)
    assert 7 <= len(gate.of(Heartbeat)) - before <= 11


HELD = {
    "historical": lambda parts: changed(parts, flags=Flag.HISTORICAL | Flag.DEGRADED),
    "test": lambda parts: changed(parts, flags=Flag.TEST),
    "flags": lambda parts: changed(parts, flags=128),
    "code A5": lambda parts: changed(parts, pixel_format=0xA5, codec=0x5A),
    "code 00": lambda parts: changed(parts, pixel_format=0x00, codec=0xFF),
    "code without complement": lambda parts: changed(parts, codec=0x5A),
    "late before its time zero": lambda parts: changed(parts, t_mono_ns=1),
}


@pytest.mark.parametrize("fault", [name for name in HELD if name != "historical"])
def test_a_faulty_verdict_is_rejected_and_the_next_one_passes(gate, fault):
    gate.send(HELD[fault](gate.commit()))
    gate.expect(f"REJECT t:st1/0/42 {fault.split()[0]}")
    gate.send(gate.commit())
    gate.expect("PASS t:st1/0/43")
    assert len(gate.of(Subscribe)) == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"outcome": Outcome.FAIL}, "code"),
        ({"advisory": True}, "advisory"),
        ({"valid_us": 0}, "late"),
        ({"valid_us": -1}, "late"),
        ({"valid_us": 2**64 - 1}, "late"),
    ],
)
def test_what_the_body_says_counts_too(gate, changes, why):
    gate.send(gate.commit(**changes))
    gate.expect(f"REJECT t:st1/0/42 {why}")


@pytest.mark.parametrize("reason", list(Reason))
def test_no_uninspected_unit_passes(gate, reason):
    gate.send(gate.commit(reason))
    gate.expect(f"REJECT t:st1/0/42 {reason.value}")


def test_a_verdict_that_was_long_decided_is_late(gate):
    gate.send(gate.commit(time_zero_ns=clock.now_ns() - 101 * MS, valid_us=100_000))
    gate.expect("REJECT t:st1/0/42 late")


def test_a_verdict_that_waited_on_its_way_is_late(gate):
    parts = gate.commit(valid_us=200_000)
    gate.serve(0.25)
    gate.send(parts)
    gate.expect("REJECT t:st1/0/42 late")


def test_control_the_same_wait_within_its_validity_passes(gate):
    parts = gate.commit(valid_us=5_000_000)
    gate.serve(0.25)
    gate.send(parts)
    gate.expect("PASS t:st1/0/42")


def test_a_verdict_said_again_is_known(gate):
    parts = gate.commit()
    gate.send(parts)
    gate.send(parts)
    gate.expect("PASS t:st1/0/42", "REJECT t:st1/0/42 known")


def test_a_replayed_verdict_is_never_acted_on(gate):
    gate.send(changed(gate.commit(), flags=Flag.REPLAY))
    gate.expect("REJECT t:st1/0/42 replay")


def broken_body(parts):
    body = bytearray(parts[1])
    body[-3] ^= 1
    return [parts[0], bytes(body)]


def bit_flipped(parts):
    head = bytearray(parts[0])
    head[40] ^= 1
    return [bytes(head), parts[1]]


BROKEN = {
    "crc": bit_flipped,
    "magic": lambda parts: [vectors.sealed(b"EIP2" + parts[0][4:]), parts[1]],
    "version": lambda parts: [vectors.sealed(parts[0][:4] + b"\x02" + parts[0][5:]), parts[1]],
    "lengths": lambda parts: [parts[0], parts[1] + b"\0"],
    "parts without metadata": lambda parts: [parts[0][:95], parts[1]],
    "parts too many": lambda parts: [*parts, b"", b""],
    "parts too long": lambda parts: [parts[0], bytes(4097)],
    "digest": broken_body,
    "digest in the header": lambda parts: changed(parts, digest=5),
    "body": lambda parts: assured.assemble(
        msgspec.structs.replace(header.unpack(parts[0]), digest=header.digest(b"\x82\xa1")),
        b"\x82\xa1",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_message_is_rejected_and_asked_for_again(gate, fault):
    gate.send(BROKEN[fault](gate.commit()))
    gate.expect(f"REJECT - {fault.split()[0]}")
    recovers(gate)


@pytest.mark.parametrize(
    ("fields", "why"), [({"offset": 7}, "chain"), ({"seq": 43}, "vseq")], ids=["chain", "vseq"]
)
def test_a_verdict_that_does_not_follow_is_rejected_and_asked_for_again(gate, fields, why):
    gate.send(changed(gate.commit(), **fields))
    gate.expect(f"REJECT t:st1/0/42 {why}")
    recovers(gate)


def test_a_verdict_left_out_stops_the_lane(gate):
    gate.commit()
    gate.send(gate.commit())
    gate.expect("REJECT t:st1/0/43 chain")
    recovers(gate)


def passes(gate):
    gate.send(gate.commit())
    gate.serve(0.05)
    return f"PASS t:st1/0/{gate.head}" in gate.lines


def recovers(gate):
    """A new connection subscribes again, and good verdicts pass on it."""
    first = gate.peer
    gate.pump(lambda: gate.peer != first)
    gate.send(gate.commit())
    gate.expect(f"PASS t:st1/0/{gate.head}")
    assert len(gate.of(Subscribe)) == 2


def test_without_heartbeats_nothing_passes(gate):
    """Verdicts alone keep the connection; they do not show that the station is well."""
    gate.beating = False
    for _ in range(8):
        gate.send(gate.commit())
        gate.serve(0.1)
    gate.pump(lambda: len(gate.lines) >= 8)
    assert gate.lines[0] == "PASS t:st1/0/42"
    assert gate.lines[-1].endswith(" heartbeat")
    gate.beating = True
    gate.serve(0.2)
    gate.send(gate.commit())
    gate.pump(lambda: gate.lines[-1] == f"PASS t:st1/0/{gate.head}")


def test_silence_of_300_ms_makes_a_new_connection(gate):
    first, gate.beating = gate.peer, False
    began = time.monotonic()
    gate.pump(lambda: gate.peer != first)
    assert 0.25 <= time.monotonic() - began <= 2
    gate.beating = True
    gate.serve(0.1)
    gate.send(gate.commit())
    gate.expect("PASS t:st1/0/42")


def test_a_verdict_before_the_answer_to_subscribe_is_rejected(daemon, start):
    daemon.answers = False
    start()
    daemon.pump(lambda: daemon.of(Subscribe))
    daemon.peer = daemon.heard[0][0]
    daemon.serve(0.1)
    daemon.send(daemon.commit())
    daemon.expect("REJECT t:st1/0/41 unasked")


def test_subscribe_first_is_obeyed(gate):
    gate.tell(Nack(why=Why.HELLO_FIRST), Type.NACK)
    gate.pump(lambda: len(gate.of(Subscribe)) == 2)
    gate.pump(lambda: "refused: HELLO_FIRST" in gate.problems)
    gate.send(gate.commit())
    gate.expect("PASS t:st1/0/42")


def test_history_is_recorded_and_not_acted_on(daemon, start):
    past = [daemon.commit() for _ in range(3)]
    daemon.history_from = 41
    start()
    daemon.pump(lambda: daemon.peer)
    daemon.send(daemon.commit())
    daemon.expect("PASS t:st1/0/44")
    daemon.pump(lambda: Ack(40, 44) in daemon.of(Ack))
    for parts in past:
        daemon.send(HELD["historical"](parts))
    daemon.expect(*(f"REJECT t:st1/0/{vseq} historical" for vseq in (41, 42, 43)))
    daemon.pump(lambda: Ack(44, 44) in daemon.of(Ack))


def test_history_that_is_gone_is_stepped_over(daemon, start):
    past = [daemon.commit() for _ in range(3)]
    start()
    daemon.pump(lambda: daemon.peer)
    chain = header.unpack(past[1][0]).chain
    daemon.tell(Truncated(41, 42, chain), Type.TRUNCATED)
    daemon.send(HELD["historical"](past[2]))
    daemon.expect("REJECT t:st1/0/43 historical")
    daemon.pump(lambda: Ack(43, 43) in daemon.of(Ack))
    assert daemon.problems == ["verdicts up to 42 are gone from the log"]


def test_another_stations_unit_is_not_this_gates(gate):
    gate.send(gate.commit(station="st2"))
    gate.send(gate.commit())
    gate.expect("PASS t:st1/0/43")


def test_a_unit_key_cannot_write_a_line_of_its_own(gate):
    gate.send(gate.commit(Outcome.FAIL, unit_key="u:st1/a\nPASS %é"))
    gate.expect("REJECT u:st1/a%0APASS%20%25%C3%A9 fail")


def test_hostile_bodies_harm_nothing(gate):
    """Right digest and CRC, so that the walk through the msgpack meets whatever there is."""
    seed, count = 5, 1500
    rng = random.Random(seed)
    good = gate.commit()[1]
    sent = 0
    for _ in range(count):
        body = bytearray(good[: rng.randrange(1, len(good))] if rng.random() < 0.3 else good)
        for _ in range(rng.randrange(1, 6)):
            body[rng.randrange(len(body))] = rng.choice([rng.randrange(256), 0xDF, 0xDD, 0xDB])
        head = Header(type=Type.VERDICT, seq=42, digest=header.digest(bytes(body)))
        gate.send(assured.assemble(head, bytes(body)))
        sent += 1
        if sent % 50 == 0:
            gate.serve(0.01)
    print(f"seed {seed}: {sent} hostile bodies")
    assert sent == count
    gate.lines.clear()
    gate.pump(lambda: len(gate.of(Subscribe)) >= 2)
    gate.serve(0.2)
    assert not [line for line in gate.lines if line.startswith("PASS")]
    gate.pump(lambda: passes(gate))


def test_the_delivery_process_serves_it(tmp_path, launch):
    """History is recorded, live units pass, and the cursor reaches the head."""
    store, endpoint = Store(tmp_path / "store"), f"ipc://{tmp_path}/v"
    store.commit(300)
    core = Core(store, endpoint)
    lines: list[str] = []
    problems: list[str] = []
    try:
        launch(endpoint, lines, problems)
        beat_until(core, lambda: lines)
        for number in range(301, 351):
            core.pulse()
            core.commit()
            beat_until(core, lambda unit=f"PASS u:st1/{number}": unit in lines)
        beat_until(core, lambda: len(lines) == 350)
        core.until_acked("gate", 350)
    finally:
        core.close()
        store.outbox.close()
    expected = [f"REJECT u:st1/{number} historical" for number in range(1, 301)]
    assert [line for line in lines if line.startswith("REJECT")] == expected
    assert not problems


def beat_until(core, condition):
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up
        core.pulse()
        time.sleep(0.02)


@pytest.mark.parametrize("words", [[], ["ipc:///x", "gate"], ["ipc:///x", "g" * 65, "st1"]])
def test_wrong_use_is_said(program, words):
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


def test_an_endpoint_that_is_none_is_said(program):
    command = [program, "nowhere", "gate", "st1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nowhere" in done.stderr
