"""Damaged messages raise `WireError` and nothing else, soon, and leave no memory behind."""

import contextlib
import gc
import mmap
import random
import struct
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from edge_inspector import clock
from edge_inspector.errors import WireError
from edge_inspector.wire import assured, header
from edge_inspector.wire.codes import Type
from edge_inspector.wire.header import Header
from tests.fuzz import mutate

SEED = 20_261
COUNTS = {
    "header": 20_000,
    "assured": 95_000,
    "verdict": 30_000,
    "plain": 35_000,
    "telemetry": 20_000,
}
GROWTH_BYTES = 20 * 2**20
ROUND_TRIPS = 100
SEEDED = settings(
    derandomize=True,
    deadline=None,
    max_examples=ROUND_TRIPS,
    database=None,
    suppress_health_check=list(HealthCheck),
)
pytestmark = [pytest.mark.fault, pytest.mark.timeout(240)]


def integers(info):
    least = -(2**63) if info.ge is None else info.ge
    return st.integers(least, 2**63 - 1 if info.le is None else info.le)


def text(info):
    if info.pattern is not None:
        return st.from_regex(info.pattern, fullmatch=True)
    return st.text(min_size=info.min_length or 0, max_size=min(info.max_length or 20, 20))


def struct_of(info):
    return st.builds(info.cls, **{field.name: strategy(field.type) for field in info.fields})


MADE_BY: dict[type, Any] = {
    inspect.StructType: struct_of,
    inspect.IntType: integers,
    inspect.StrType: text,
    inspect.BoolType: lambda info: st.booleans(),
    inspect.NoneType: lambda info: st.none(),
    inspect.FloatType: lambda info: st.floats(allow_nan=False, allow_infinity=False),
    inspect.ListType: lambda info: st.lists(strategy(info.item_type), max_size=5),
    inspect.VarTupleType: lambda info: st.lists(strategy(info.item_type), max_size=5).map(tuple),
    inspect.TupleType: lambda info: st.tuples(*map(strategy, info.item_types)),
    inspect.DictType: lambda info: st.dictionaries(st.text(max_size=8), strategy(info.value_type)),
    inspect.LiteralType: lambda info: st.sampled_from(info.values),
    inspect.EnumType: lambda info: st.sampled_from(info.cls),
    inspect.UnionType: lambda info: st.one_of(*map(strategy, info.types)),
}


def strategy(info):
    """Values of a type, as msgspec describes it."""
    return MADE_BY[type(info)](info)


def messages(kind):
    """Messages of one type as hypothesis makes them up."""
    made: list[list[bytes]] = []

    @SEEDED
    @given(strategy(inspect.type_info(assured.KINDS[kind])))
    def collect(said):
        with contextlib.suppress(WireError):  # of more than 4096 bytes
            made.append([bytes(part) for part in assured.build(said)])

    collect()
    return made


class Tally:
    """What a run of the fuzzer did."""

    def __init__(self):
        self.count = self.refused = self.slowest_ns = 0


def fuzz(name, decode, count, bases):
    """Decode so many damaged messages; fails for what raises another error, is slow or grows."""
    rng, tally = random.Random(f"{SEED} {name}"), Tally()
    grown = Growth()
    while tally.count < count:
        parts = mutate.damaged(rng.choice(bases), rng)
        if name in mutate.SEALED and rng.random() < 0.9:
            parts = mutate.made_right(parts)
        tally.refused += mutate.refuses(decode, parts)
        tally.slowest_ns = max(tally.slowest_ns, mutate.timed_ns(decode, parts))
        tally.count += 1
    assert grown.bytes() <= GROWTH_BYTES
    print(
        f"{name}: seed {SEED}, {tally.count} examples of {len(bases)} messages, "
        f"{tally.refused} refused, slowest {tally.slowest_ns / 1e6:.2f} ms, "
        f"{grown.bytes() / 2**20:.1f} MiB more"
    )
    return tally


class Growth:
    """How much memory this process holds more than at the start."""

    def __init__(self):
        self._process = psutil.Process()
        self._before = self._resident()

    def _resident(self):
        gc.collect()
        return self._process.memory_info().rss

    def bytes(self):
        return self._resident() - self._before


@pytest.mark.parametrize("kind", list(Type), ids=lambda kind: kind.name)
def test_what_hypothesis_makes_up_comes_back(kind):
    made = messages(kind)
    assert made
    for parts in made:
        said = assured.read(assured.split(parts))
        assert [bytes(part) for part in assured.build(said)] == parts


@SEEDED
@given(
    st.builds(
        Header,
        type=st.sampled_from(Type),
        flags=st.integers(0, 255),
        epoch=st.binary(min_size=16, max_size=16),
        seq=st.integers(0, 2**64 - 1),
        t_mono_ns=st.integers(0, 2**64 - 1),
        budget_us=st.integers(0, 2**32 - 1),
        width=st.integers(0, 2**16 - 1),
        codec=st.integers(0, 255),
        digest=st.integers(0, 2**64 - 1),
        offset=st.integers(0, 2**32 - 1),
    )
)
def test_a_header_comes_back(said):
    assert header.unpack(header.pack(said)) == said


@pytest.mark.parametrize("name", COUNTS)
def test_damage_is_refused_and_nothing_else_happens(name):
    bases = mutate.bases(name)
    if name in mutate.SEALED:
        kinds = [Type.VERDICT] if name == "verdict" else list(Type)
        bases += [parts for kind in kinds for parts in messages(kind)]
    bases = [parts for parts in bases if parts]
    tally = fuzz(name, mutate.DECODERS[name], COUNTS[name], bases)
    assert tally.count == COUNTS[name]
    assert 0.05 * tally.count <= tally.refused < tally.count


def test_it_is_200_000_examples_in_all():
    assert sum(COUNTS.values()) == 200_000
    assert COUNTS.keys() == mutate.DECODERS.keys()


def without_length_check(parts):
    """A header is taken as it comes."""
    struct.unpack_from("<4sBBBBII16sQQQQIHHHBBHHQII", parts[0] if parts else b"")


def test_control_a_decoder_without_its_length_check_is_caught():
    with pytest.raises(struct.error):
        fuzz("header", without_length_check, 2_000, mutate.bases("assured"))


def test_control_a_slow_decoder_is_caught():
    def slow(parts):
        give_up = clock.now_ns() + 2 * mutate.SLOWEST_NS
        while clock.now_ns() < give_up:
            pass

    with pytest.raises(AssertionError, match="10 times"):
        fuzz("plain", slow, 10, mutate.bases("plain"))


def test_control_a_decoder_that_keeps_what_it_read_is_caught():
    kept = []

    def keep(parts):
        """Pages of its own: the heap may have room that tests before this one gave back."""
        kept.append(mmap.mmap(-1, 20_480))
        kept[-1].write(b"x" * 20_480)

    with pytest.raises(AssertionError, match="<="):
        fuzz("plain", keep, 2_000, [[b"{}", b""]])
