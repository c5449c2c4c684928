"""The gateway over real sockets: the map, the handshakes, and peers that do not behave."""

import random
import socket
import struct
from contextlib import suppress

import pytest
from pymodbus.constants import ExcCodes

from edge_inspector import clock
from edge_inspector.channel import ExpectWanted, Failed, RunWanted
from edge_inspector.records import Outcome, Reason
from edge_inspector.wire.codes import CODES, NO_CLASS, code_of
from edge_inspector.wire.registers import Command, Held, Status, Trouble, counter_of

LONG = {"valid_us": 600_000_000}
ILLEGAL_FUNCTION, ILLEGAL_VALUE = int(ExcCodes.ILLEGAL_FUNCTION), int(ExcCodes.ILLEGAL_VALUE)


@pytest.fixture
def core(start_gateway):
    return start_gateway()


@pytest.fixture
def plc(core, connect):
    return connect(core.port)


def test_a_result_is_told_register_by_register(core, plc):
    engine = "89abcdef01234567"
    score, latency = 1.2345, 23_000
    core.commit(
        outcome=Outcome.FAIL,
        defect_class="missing",
        anomaly_score=score,
        engine=engine,
        trigger_id=70_000,
        time_zero_ns=clock.now_ns() - latency * 1000,
    )
    core.pulse()
    core.pulse()
    block = plc.until(lambda block: block[4])
    assert block[0] == 0x0101
    assert Status(block[1]) == Status.ONLINE | Status.READY | Status.RESULT_VALID
    assert block[2:4] == [1, 0]
    assert block[4] == block[19] == 1
    assert (block[5], block[6]) == (70_000 >> 16, 70_000 & 0xFFFF)
    assert block[7] == 0xF00F
    assert block[8:10] == [2, 12_345]
    assert 23 <= block[10] < 3000
    assert block[11] == 0
    assert block[12:16] == [0, 1, 0x89AB, 0xCDEF]
    assert block[16] == Trouble.NONE


def test_only_a_pass_has_the_word_of_a_pass(core, plc):
    for number, what in enumerate(CODES, 1):
        outcome = what if isinstance(what, Outcome) else Outcome.UNINSPECTED
        reason = what if isinstance(what, Reason) else None
        core.commit(outcome=outcome, reason=reason, **LONG)
        block = plc.until(lambda block, number=number: block[4] == number)
        code = code_of(outcome, reason)
        assert block[7] == code << 8 | code ^ 0xFF
        assert (block[7] == 0x5AA5) == (what is Outcome.PASS)
        plc.write(Held.ACK, number)


def test_the_next_result_is_shown_after_the_ack_and_the_cursor_follows(core, plc):
    core.commit(5, **LONG)
    for number in range(1, 6):
        block = plc.until(lambda block, number=number: block[4] == number)
        assert block[6] == number
        assert block[11] == 5 - number
        assert plc.result().counter == number, "it stays until it is acknowledged"
        plc.write(Held.ACK, number)
    block = plc.until(lambda block: not Status(block[1]) & Status.RESULT_VALID)
    assert (block[4], block[6], block[7]) == (5, 0, 0), "what was acknowledged is not shown"
    core.until_acked(core.consumer, 5)


def test_a_plc_may_write_its_whole_block_in_each_cycle(core, plc):
    core.commit(2, **LONG)
    core.pulse()
    plc.until(lambda block: block[4] == 1)
    for beat in range(1, 5):
        assert plc.write(0, beat, 1, 0, 0, 0, 0) == 0
    assert plc.result().counter == 2
    assert plc.read()[16] == Trouble.NONE


def test_in_latest_mode_the_newest_takes_the_place_without_an_ack(start_gateway, connect):
    core = start_gateway(mode="latest")
    plc = connect(core.port)
    core.commit(3, **LONG)
    block = plc.until(lambda block: block[4] == 3)
    assert block[11] == 0
    assert not Status(block[1]) & Status.OVERRUN


def test_more_than_64_waiting_results_are_an_overrun_that_stays(core, plc):
    core.commit(70, **LONG)
    block = plc.until(lambda block: Status(block[1]) & Status.OVERRUN)
    assert block[16] == Trouble.CORE_SILENT
    plc.until(lambda block: block[11] == 64)
    plc.write(Held.ACK, 1)
    assert plc.result().trigger_id == 70 - 63, "the oldest that waited were given up"
    assert plc.status() & Status.OVERRUN
    plc.write(Held.COMMAND, Command.CLEAR_OVERRUN)
    assert not plc.status() & Status.OVERRUN
    assert plc.read()[3] == Command.CLEAR_OVERRUN
    plc.write(Held.COMMAND, 0)
    assert plc.read()[3] == 0


def test_a_pass_is_shown_as_a_timeout_once_it_is_too_old(core, plc):
    core.commit(valid_us=300_000)
    plc.until(lambda block: block[7] == 0x5AA5)
    block = plc.until(lambda block: block[7] != 0x5AA5)
    assert block[7] >> 8 == CODES[Reason.TIMEOUT]


def test_what_no_plc_can_match_is_passed_over(core, plc):
    core.commit(trigger_id=None, unit_id="A", **LONG)
    core.commit(advisory=True, **LONG)
    core.commit(trigger_id=2**32 + 4, **LONG)
    core.commit(**LONG)
    block = plc.until(lambda block: block[4])
    assert (block[4], block[6]) == (4, 4)
    assert core.until_counted("modbus_unmatched", 3) == 3


def test_a_new_run_forgets_what_waits_and_is_echoed_when_core_has_begun_it(core, plc):
    core.commit(3, **LONG)
    plc.until(lambda block: block[4])
    plc.write(Held.COMMAND, Command.NEW_RUN)
    core.message(RunWanted)
    core.commit(**LONG)
    block = plc.read()
    assert block[3] == 0
    assert not Status(block[1]) & Status.RESULT_VALID
    core.begin_run(1)
    plc.until(lambda block: block[3] == Command.NEW_RUN)
    core.commit(run=0, trigger_id=5, **LONG)
    core.commit(run=1, trigger_id=1, **LONG)
    assert plc.until(lambda block: Status(block[1]) & Status.RESULT_VALID)[6] == 1


def test_a_unit_announced_in_registers_4_and_5_is_said_to_core_once(core, plc):
    for _ in range(3):
        assert plc.write(0, 1, 0, 0, 0, 1, 2) == 0
    plc.write(Held.NEXT_HIGH, 1, 3)
    assert core.message(ExpectWanted) == ExpectWanted(0x10002)
    assert core.message(ExpectWanted) == ExpectWanted(0x10003)
    assert plc.write(Held.NEXT_LOW, 9) == ILLEGAL_VALUE, "half of a number is none"


def test_a_recipe_that_is_not_there_is_refused_without_an_echo(core, plc):
    core.pulse()
    plc.write(Held.COMMAND, Command.SELECT_RECIPE, 7)
    block = plc.read()
    assert (block[3], block[16]) == (0, Trouble.COMMAND_REFUSED)
    plc.write(Held.COMMAND, 0, 1)
    assert plc.read()[16] == Trouble.NONE
    plc.write(Held.COMMAND, Command.SELECT_RECIPE)
    assert plc.read()[3] == Command.SELECT_RECIPE


def test_the_self_test_needs_a_station_that_moves(core, plc):
    plc.write(Held.COMMAND, Command.SELF_TEST)
    assert plc.read()[3] == 0
    plc.write(Held.COMMAND, 0)
    core.pulse()
    core.pulse()
    plc.until(lambda block: Status(block[1]) & Status.READY)
    plc.write(Held.COMMAND, Command.SELF_TEST)
    assert plc.read()[3] == Command.SELF_TEST


def test_ready_drops_where_pulses_come_but_nothing_moves(core, plc):
    core.pulse()
    core.pulse()
    plc.until(lambda block: Status(block[1]) & Status.READY)
    block = plc.until(lambda block: core.pulse(moved=False) or not block[1] & Status.READY)
    assert Status(block[1]) & Status.ONLINE
    assert block[2] == 1, "the heartbeat counts changes of the toggle, not messages"


def test_a_plc_whose_heartbeat_stands_still_for_500_ms_is_an_alarm(core, plc):
    core.pulse()
    plc.write(Held.HEARTBEAT, 1)
    started_ns = clock.now_ns()
    plc.until(lambda block: core.pulse() or block[16] == Trouble.PLC_SILENT)
    assert clock.now_ns() - started_ns >= 450_000_000
    assert core.until_counted("modbus_plc_silent") == 1
    core.pulse()
    plc.write(Held.HEARTBEAT, 2)
    assert plc.read()[16] == Trouble.NONE


def test_after_a_restart_the_next_result_is_the_one_that_was_not_acknowledged(
    start_gateway, connect, store
):
    core = start_gateway()
    core.commit(3, **LONG)
    plc = connect(core.port)
    plc.until(lambda block: block[4] == 1)
    plc.write(Held.ACK, 1)
    core.until_acked(core.consumer, 1)
    core.kill()
    core = start_gateway()
    assert connect(core.port).until(lambda block: block[4])[4] == counter_of(2)


def test_what_core_could_not_say_is_read_from_the_log(core, plc, store):
    store.commit(3, **LONG)
    core.commit(**LONG)
    for number in range(1, 5):
        plc.until(lambda block, number=number: block[4] == number)
        plc.write(Held.ACK, number)
    core.until_acked(core.consumer, 4)
    assert (core.consumer, 4) in core.acked


def test_a_plc_that_writes_nonsense_is_told_so_and_nothing_happens(core, plc):
    core.commit(**LONG)
    plc.until(lambda block: block[4] == 1)
    for address, values in (
        *((0, [0] * 7), (5, [0, 0]), (6, [1]), (2, [6]), (2, [65_535])),
        *((4, [1]), (65_535, [1]), (0, [7] * 100), (0, [1, 2, 77, 4, 5, 6])),
    ):
        assert plc.write(address, *values) in (ILLEGAL_VALUE, int(ExcCodes.ILLEGAL_ADDRESS))
    assert plc.result().counter == 1
    assert plc.client.read_holding_registers(0, count=6).registers == [0] * 6


def test_an_ack_of_a_result_never_shown_is_said_and_ignored(core, plc):
    core.pulse()
    core.commit(2, **LONG)
    plc.until(lambda block: block[4] == 1)
    plc.write(Held.ACK, 1)
    plc.write(Held.ACK, 77)
    block = plc.read()
    assert (block[4], block[16]) == (2, Trouble.WRONG_ACK)


def test_only_these_registers_and_functions_are_there(core, plc):
    client = plc.client
    assert client.read_input_registers(0, count=21).isError()
    assert client.read_input_registers(20, count=1).isError()
    assert client.read_holding_registers(6, count=1).isError()
    for answer in (
        client.read_coils(0, count=1),
        client.read_discrete_inputs(0, count=1),
        client.write_coil(0, True),
        client.mask_write_register(address=0),
        client.readwrite_registers(read_count=1, values=[1]),
        client.read_device_information(),
    ):
        assert answer.exception_code == ILLEGAL_FUNCTION
    assert not client.read_input_registers(3, count=2).isError()


def test_a_writer_of_another_address_reads_only(start_gateway, connect):
    core = start_gateway(writer="127.0.0.9")
    plc = connect(core.port)
    core.commit(**LONG)
    plc.until(lambda block: block[4] == 1)
    assert plc.write(Held.ACK, 1) == ILLEGAL_FUNCTION
    assert plc.result().counter == 1
    assert core.until_counted("modbus_not_writer") == 1


def gone(client):
    client.settimeout(3)
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_peer_that_is_not_on_the_list_is_cut(start_gateway):
    core = start_gateway(allow=["10.1.0.0/16"])
    with socket.create_connection(("127.0.0.1", core.port)) as client:
        assert gone(client)
    assert core.until_counted("modbus_not_allowed") == 1


def test_the_ninth_connection_is_cut_and_an_idle_one_makes_room_after_a_second(core, connect):
    plcs = [socket.create_connection(("127.0.0.1", core.port)) for _ in range(8)]
    with socket.create_connection(("127.0.0.1", core.port)) as ninth:
        assert gone(ninth)
    assert core.until_counted("modbus_too_many") == 1
    for client in plcs:
        assert gone(client)
        client.close()
    assert len(connect(core.port).read()) == 20
    assert core.until_counted("modbus_idle", 8) == 8


def test_what_is_no_modbus_ends_its_connection_alone(core, plc):
    core.commit(**LONG)
    for raw in (b"GET / HTTP/1.1\r\n\r\n", struct.pack(">HHHB", 1, 0, 300, 1), b"\xff" * 64):
        with socket.create_connection(("127.0.0.1", core.port)) as client:
            client.sendall(raw)
            assert gone(client)
    assert plc.until(lambda block: block[4])[4] == 1


def test_a_port_that_is_taken_is_said_and_ends_the_gateway(start_gateway):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        core = start_gateway(port=taken.getsockname()[1])
        assert isinstance(core.started, Failed)
        assert "another port" in core.started.detail


def test_a_verdict_without_a_class_has_no_number(core, plc):
    core.commit(**LONG)
    assert plc.until(lambda block: block[4])[8] == NO_CLASS


def test_what_was_too_old_when_the_gateway_started_is_history(start_gateway, connect, store):
    store.commit(3, valid_us=1)
    store.commit(**LONG)
    core = start_gateway()
    plc = connect(core.port)
    assert plc.until(lambda block: block[4])[4] == 4
    assert core.until_counted("modbus_historical", 3) == 3
    plc.write(Held.ACK, 4)
    core.until_acked(core.consumer, 4)
    assert (core.consumer, 4) in core.acked


def frames(chance):
    """Requests of served and other functions, whose lengths and counts lie as often as not."""
    for _ in range(300):
        function = chance.choice((3, 4, 6, 16, 16, chance.randrange(256)))
        body = bytes([function]) + chance.randbytes(chance.randrange(0, 30))
        lie = chance.choice((0, 0, 0, -1, 1, 200))
        length = max(0, len(body) + 1 + lie)
        yield struct.pack(">HHHB", chance.randrange(65_536), 0, length, 1) + body


def test_whatever_a_peer_sends_the_next_one_is_served(core, plc, connect):
    core.commit(**LONG)
    plc.until(lambda block: block[4] == 1)
    plc.close()
    chance = random.Random(13)
    sent = list(frames(chance))
    while sent:
        with socket.create_connection(("127.0.0.1", core.port)) as client:
            client.settimeout(0.02)
            for _ in range(10):
                if sent:
                    with suppress(OSError):
                        client.sendall(sent.pop())
                        client.recv(300)
    assert connect(core.port).until(lambda block: block[4])[4] == counter_of(1)
    assert core.process.poll() is None
