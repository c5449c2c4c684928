"""
A camera that freezes before the docket, with frames lost, late, given up, overtaken and killed.

`Frozen` knows which exposure each picture is of. No unit may be judged on the picture of another
one: where the source tells of repeats, whatever became of the frame before; else as far as the
docket was shown both in time.
"""

import functools
import random
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from edge_inspector.docket import Commit, Dispatch, Docket, Offered
from edge_inspector.records import Committed, FrameHead, FrameKey, Outcome, Reason, Verdict
from tests.test_docket_simulation import MS, SLOTS, World

CAMERA = "top"
GIVEN_UP = {"digest": 0, "slot": -1, "fault": Reason.CAMERA_FAULT, "tombstone": True}
SHED = {"slot": -1, "fault": Reason.SHED}
WAYS = ("whole", "tombstone", "shed", "lost")
PICTURES = 1024


class Shown(NamedTuple):
    """One coming of a picture: under which number, as which unit's."""

    epoch: str
    seq: int
    coming: int
    unit_key: str


class Frozen(World):
    """A line with one camera that must never repeat; `told` when its source says when it does."""

    def __init__(self, docket_type=Docket, *, told, remembered=60):
        self.make = functools.partial(docket_type, never_repeat=(CAMERA,))
        super().__init__(self.make, remembered=remembered)
        self.told, self.remembered = told, remembered
        self.judged_of: dict[FrameKey, FrameHead] = {}
        self.copies: set[str] = set()
        self.shown: dict[int, list[Shown]] = {}
        self.on_the_way: list[FrameHead] = []
        self.past: list[FrameHead] = []
        self.exposures = self.digest = 0

    def expose(self, *, frozen, back=0):
        """The camera shows a unit, or what it showed before; its source numbers the frame."""
        self.exposures += 1
        if not (frozen and self.digest):
            self.digest = self.exposures
        elif back and not self.told:
            self.digest = max(1, self.digest - back)
        repeats = self.digest != self.exposures
        head = FrameHead(
            key=FrameKey("cam", "e", self.exposures),
            station="s",
            camera=CAMERA,
            recipe="bga",
            arrived_ns=self.now,
            time_zero_ns=self.now,
            unit_id=f"x{self.exposures}",
            digest=self.digest,
            assured=True,
            repeat=self.told and repeats,
        )
        self.counts["frozen"] += repeats
        if repeats and self.told:
            self.copies.add(head.unit_key)
        self.on_the_way.append(head)

    def arrive(self, which, way):
        """A frame on its way comes, in any order, or does not."""
        if self.on_the_way:
            head = self.on_the_way.pop(which % len(self.on_the_way))
            self.past.append(head)
            self.counts[f"{way} frames"] += 1
            if way != "lost":
                self.come(head, way)

    def again(self, which, way):
        """A frame comes once more: its source heard of no verdict."""
        if self.past and way != "lost":
            self.come(self.past[-1 - which % len(self.past)], way)

    def other_camera(self, back):
        """The unit's second camera, so that some are complete."""
        if self.slots and self.past:
            unit_id = self.past[-1 - back % len(self.past)].unit_id
            self.offer(unit_id=unit_id, camera="side", time_zero_ns=self.now)

    def come(self, head, way):
        if not self.slots:
            return
        ways = {"tombstone": {**GIVEN_UP, "given_up": head.digest}, "shed": SHED}
        fields = ways.get(way, {"slot": self.slots[-1]})
        head = msgspec.structs.replace(head, arrived_ns=self.now, size=4, **fields)
        if head.slot >= 0:
            self.waiting[self.slots.pop()] = head
        known = self.shown.setdefault(head.digest or head.given_up, [])
        known.append(Shown(head.key.epoch, head.key.seq, self.counts["Offered"], head.unit_key))
        self.act(Offered(head))

    def restart(self):
        """Core is killed: what is on disk stays, accepted units are aborted."""
        self.counts["restarts"] += 1
        for unit_key in sorted({unit_key for unit_key, _ in self.digests} - set(self.log)):
            verdict = Verdict(
                unit_key=unit_key,
                station="s",
                outcome=Outcome.UNINSPECTED,
                frames=tuple(head.key for head in self.past if head.unit_key == unit_key),
                recipe="bga",
                reason=Reason.ABORTED,
            )
            vseq, body = len(self.log) + 1, msgspec.msgpack.encode(verdict)
            self.log[unit_key] = Committed(
                vseq=vseq, verdict=verdict, body=body, chain=0, fresh=False
            )
        for held in (self.store, self.waiting, self.reading, self.undecided, self.tickets):
            held.clear()
        self.slots, self.published = list(range(SLOTS)), set(self.log)
        self.shown = {
            digest: [
                one._replace(epoch="")
                for one in comings
                if self.digests.get((one.unit_key, CAMERA)) == digest
            ]
            for digest, comings in self.shown.items()
        }
        self.docket = self.make("s", *self._terms(), self.remembered)
        self.docket.resume([(0, 0)], self.pictures())
        self.room()

    def pictures(self):
        digests: dict[str, dict[str, int]] = {}
        for (unit_key, camera), digest in self.digests.items():
            digests.setdefault(unit_key, {})[camera] = digest
        newest = list(self.log.values())[-PICTURES:]
        return [(row.verdict, digests.get(row.verdict.unit_key, {})) for row in newest]

    def _terms(self):
        docket = self.docket
        return docket.cameras, docket.budget_us, docket.max_queue, "bga", 1

    def on_dispatch(self, action):
        super().on_dispatch(action)
        self.judged_of[action.head.key] = action.head

    def on_commit(self, action):
        super().on_commit(action)
        verdict = action.verdict
        if verdict.outcome is Outcome.UNINSPECTED:
            return
        self.counts["judged"] += 1
        for key in verdict.frames:
            head = self.judged_of.get(key)
            if head is not None and head.camera == CAMERA:
                assert verdict.unit_key not in self.copies, "told, and judged all the same"
                before = [one for one in self.shown[head.digest] if self._before(one, head)]
                assert not before, "judged on another unit's picture"

    def _before(self, one, head):
        """Whether this was another unit's exposure, and an earlier one."""
        if one.unit_key == head.unit_key:
            return False
        if one.epoch == head.key.epoch:
            return one.seq < head.key.seq
        mine = [s.coming for s in self.shown[head.digest] if s.unit_key == head.unit_key]
        return one.coming < min(mine)

    checks = World.checks | {Dispatch: on_dispatch, Commit: on_commit}


def live(world, rng, events):
    """Bursts, freezes, and each way that a frame can take; a kill now and then."""
    ways = ("whole",) * 6 + WAYS
    habits = {
        lambda: world.expose(frozen=rng.random() < 0.3, back=rng.choice([0, 0, 1, 3])): 120,
        lambda: world.arrive(0 if rng.random() < 0.7 else rng.randrange(9), rng.choice(ways)): 140,
        lambda: world.again(rng.randrange(20), rng.choice(ways)): 40,
        lambda: world.other_camera(rng.randrange(2)): 130,
        lambda: world.worker(rng.randrange(9), rng.choice(list(Outcome))): 260,
        lambda: world.store_batch(rng.randrange(8)): 250,
        lambda: world.pass_time(int(rng.expovariate(0.3 / MS))): 120,
        world.lose_workers: 1,
        world.restart: 1,
    }
    while world.counts["Offered"] < events:
        for habit in rng.choices(list(habits), list(habits.values()), k=50):
            habit()
    world.drain()


@pytest.mark.parametrize("told", [True, False])
def test_no_unit_is_judged_on_the_picture_of_another(told):
    world = Frozen(told=told)
    live(world, random.Random(20260), 6_000)
    for seen in ("frozen", "judged", "restarts", "camera_fault", "timeout", "late"):
        assert world.counts[seen] > 10, f"{seen} hardly happened"


class Unwatched(Docket):
    """Control: the camera may repeat itself."""

    def __init__(self, *given, never_repeat):
        super().__init__(*given)


class KnowsTheLastOnly(Docket):
    """Control: one picture is known at a time."""

    def _offer(self, head):
        for known in self._repeats._shown.values():
            while len(known) > 1:
                known.popitem(last=False)
        super()._offer(head)


class LetsCopiesPass(Docket):
    """Control: a copy that came first is judged all the same."""

    def _copied(self, unit_key, original):
        pass


class ForgetsAtStart(Docket):
    """Control: the log's pictures are not remembered."""

    def resume(self, runs, known):
        super().resume(runs, [])


class BelievesNobody(Docket):
    """Control: what a source says of its repeats is not heard."""

    def _offer(self, head):
        super()._offer(msgspec.structs.replace(head, repeat=False))


@pytest.mark.parametrize(
    ("docket_type", "told"),
    [
        (Unwatched, True),
        (Unwatched, False),
        (KnowsTheLastOnly, False),
        (LetsCopiesPass, False),
        (ForgetsAtStart, False),
        (BelievesNobody, True),
    ],
)
def test_a_docket_without_a_protection_is_caught(docket_type, told):
    with pytest.raises(AssertionError, match=r"told, and judged|another unit's picture"):
        live(Frozen(docket_type, told=told), random.Random(1), 20_000)


class Machine(RuleBasedStateMachine):
    """The same world, driven and shrunk by hypothesis."""

    told = False

    def __init__(self):
        super().__init__()
        self.world = Frozen(told=self.told, remembered=3)

    @rule(frozen=st.booleans(), back=st.integers(0, 3))
    def expose(self, frozen, back):
        self.world.expose(frozen=frozen, back=back)

    @rule(which=st.integers(0, 3), way=st.sampled_from(["whole", *WAYS]))
    def arrive(self, which, way):
        self.world.arrive(which, way)

    @rule(which=st.integers(0, 3), way=st.sampled_from(WAYS))
    def again(self, which, way):
        self.world.again(which, way)

    @rule(back=st.integers(0, 1))
    def other_camera(self, back):
        self.world.other_camera(back)

    @rule(which=st.integers(0, 2), outcome=st.sampled_from(list(Outcome)))
    def answer(self, which, outcome):
        self.world.worker(which, outcome)

    @rule(rows=st.integers(1, 4))
    def store(self, rows):
        self.world.store_batch(rows)

    @rule(us=st.integers(0, 30_000))
    def wait(self, us):
        self.world.pass_time(us * 1000)

    @rule()
    def restart(self):
        self.world.restart()

    def teardown(self):
        self.world.drain()


class ToldMachine(Machine):
    """As `Machine`, with a source that says when it repeats."""

    told = True


TestMachine = Machine.TestCase
TestToldMachine = ToldMachine.TestCase
TestMachine.settings = TestToldMachine.settings = settings(
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
