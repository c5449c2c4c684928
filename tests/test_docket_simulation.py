"""
The docket against a model of everything around it: log, workers, slots, clock and publishers.

`World` checks each action as it comes. The controls run dockets that lack one protection each, and
must be caught.
"""

import random
import sys
from collections import Counter, deque
from collections.abc import Callable
from typing import ClassVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_inspector.docket import (
    Action,
    Capacity,
    Commit,
    Dispatch,
    Docket,
    Expected,
    Inspected,
    Journal,
    Journaled,
    Note,
    Offered,
    Publish,
    Release,
    Reply,
    SequenceReset,
    Settled,
    Tick,
    WorkerLost,
)
from edge_inspector.records import (
    Committed,
    FrameHead,
    FrameKey,
    Inspection,
    Outcome,
    Reason,
)

MS = 1_000_000
BUDGET_MS = 20
CAMERAS = ("top", "side")
MAX_QUEUE = 4
WORKERS = 3
SLOTS = 64


class World:
    """Whatever the docket talks to, and every promise it makes."""

    def __init__(self, docket_type=Docket, max_queue=MAX_QUEUE, remembered=60):
        self.docket = docket_type("s", CAMERAS, BUDGET_MS * 1000, max_queue, "bga", 1, remembered)
        self.now = 0
        self.counts: Counter[str] = Counter()
        self.slots = list(range(SLOTS))
        self.reading = {}
        self.waiting = {}
        self.store: deque[Journal | Commit] = deque()
        self.log = {}
        self.digests = {}
        self.undecided = {}
        self.published = set()
        self.tickets = {}
        self.sent = []
        self.highest: int | None = None
        self.missing: dict[int, str] = {}
        self.epoch = 0
        self.frames = 0
        self.decided = set()
        self.announced = set()
        self.room()

    # what the world does

    def room(self):
        self.free = WORKERS - len(self.reading)
        self.act(Capacity(self.free))

    def offer(self, **fields):
        if not self.slots:
            return
        self.frames += 1
        defaults = {
            "key": FrameKey("src", "e", self.frames),
            "station": "s",
            "camera": "top",
            "recipe": "bga",
            "arrived_ns": self.now,
            "time_zero_ns": self.now,
            "digest": self.frames,
            "slot": self.slots.pop(),
            "ticket": self.frames if self.frames % 3 == 0 else 0,
        }
        head = FrameHead(**{**defaults, **fields})
        if head.ticket:
            self.tickets[head.ticket] = 0
        self.waiting[head.slot] = head
        self.sent.append(head)
        self.act(Offered(head))

    def offer_again(self, back, other_pixels):
        if self.sent:
            old = self.sent[-1 - back % len(self.sent)]
            if old.numbered and back > 20:
                return
            fields = msgspec.structs.asdict(old)
            for name in ("slot", "ticket", "arrived_ns", "time_zero_ns"):
                del fields[name]
            if not old.numbered:
                del fields["key"]
            fields["digest"] += 10**9 * other_pixels
            if not old.numbered or not other_pixels:
                self.offer(**fields)

    def offer_numbered(self, step):
        """A counted frame; the gap it reveals is what the model expects to be answered for."""
        first = self.highest is None
        if not self.slots or (first and step != 1):
            return
        self.highest = 0 if self.highest is None else self.highest
        seq = self.highest + step
        if step < 1 and seq not in self.missing:
            return
        due = self.now + BUDGET_MS * MS
        if step > 101:
            self.epoch += 1
            self.counts["resets"] += 1
            self.missing = {}
            self.sent = [head for head in self.sent if not head.numbered]
        elif step > 1:
            suffix = f"+{self.epoch}" if self.epoch else ""
            for n in range(self.highest + 1, seq):
                self.missing[n] = key = f"f:counted/c{suffix}/{n}"
                self.undecided[key] = due
                self.counts["gaps"] += 1
        elif step < 1:
            self.undecided.pop(self.missing.pop(seq), None)
        self.highest = seq if step > 0 else self.highest
        self.offer(key=FrameKey("counted", "c", seq), numbered=True, digest=10**6 + self.frames)

    def expect(self, trigger_id):
        """An announced unit, which the model expects to be answered for unless it was seen."""
        key = f"t:s/0/{trigger_id}"
        in_hand = key in self.undecided or (key in self.decided and key not in self.log)
        if not in_hand and key not in self.docket._past:
            self.undecided[key] = self.now + BUDGET_MS * MS
            self.announced.add(key)
            self.counts["announced"] += 1
        self.act(Expected(trigger_id))

    def store_batch(self, rows):
        for _ in range(min(rows, len(self.store))):
            action = self.store.popleft()
            if isinstance(action, Journal):
                head = action.head
                stored = self.log.get(head.unit_key)
                known = self.digests.get((head.unit_key, head.camera), head.digest)
                if stored is None:
                    self.digests[head.unit_key, head.camera] = head.digest
                else:
                    self.undecided.pop(head.unit_key, None)
                    self.counts["stored"] += 1
                self.act(Journaled(head.key, stored, known != head.digest))
            else:
                verdict = action.verdict
                fresh = verdict.unit_key not in self.log
                vseq = len(self.log) + 1
                body = msgspec.msgpack.encode(verdict)
                row = Committed(vseq=vseq, verdict=verdict, body=body, chain=0, fresh=fresh)
                if fresh:
                    self.log[verdict.unit_key] = msgspec.structs.replace(row, fresh=False)
                self.act(Settled(row if fresh else self.log[verdict.unit_key]))

    def worker(self, which, outcome):
        if self.reading:
            key = list(self.reading)[which % len(self.reading)]
            self.release_ok = self.reading.pop(key)
            reason = Reason.BAD_INPUT if outcome is Outcome.UNINSPECTED else None
            self.act(Inspected(key, Inspection(outcome=outcome, reason=reason)))
            self.room()

    def lose_workers(self):
        keys = tuple(self.reading)
        self.reading.clear()
        self.counts["lost workers"] += 1
        self.act(WorkerLost(keys, "killed"))
        self.room()

    def pass_time(self, ns):
        until = self.now + ns
        while (due := self.docket.next_due()) is not None and due <= until:
            self.now = max(self.now, due)
            self.act(Tick())
        self.now = until
        self.check()

    def drain(self):
        while self.reading or self.store or self.undecided:
            self.worker(0, Outcome.PASS)
            self.store_batch(100)
            self.pass_time(BUDGET_MS * MS)
        self.check()
        assert len(self.slots) == SLOTS, "slots were lost"
        assert set(self.published) == set(self.log), "a committed verdict was not published"
        assert self.docket.open_units == 0
        assert self.docket.next_due() is None
        assert set(self.tickets.values()) <= {1}, "a ticket without exactly one final reply"

    # what the docket must keep to

    def act(self, event):
        self.counts[type(event).__name__] += 1
        for action in self.docket.step(event, self.now):
            self.counts[type(action).__name__] += 1
            self.checks[type(action)](self, action)
        self.check()

    def check(self):
        due = min(self.undecided.values(), default=None)
        assert due is None or due > self.now, "a deadline passed without a verdict"
        assert self.docket.next_due() == due, "next_due is not the nearest deadline"
        assert self.docket.queued <= MAX_QUEUE, "the queue is longer than its bound"

    def on_journal(self, action: Journal):
        key = action.head.unit_key
        if key in self.announced:  # the deadline is that of what is seen
            self.announced.remove(key)
            self.undecided.pop(key, None)
        self.undecided[key] = min(action.deadline_ns, self.undecided.get(key, 2**62))
        self.store.append(action)

    def on_dispatch(self, action: Dispatch):
        assert self.free > 0, "more frames than the workers can take"
        self.free -= 1
        assert action.head.slot in self.waiting, "a released slot went to a worker"
        self.reading[action.head.key] = action.head.slot

    def on_commit(self, action: Commit):
        verdict = action.verdict
        assert verdict.unit_key in self.undecided, "a verdict too many"
        due = self.undecided.pop(verdict.unit_key)
        self.decided.add(verdict.unit_key)
        self.announced.discard(verdict.unit_key)
        late = verdict.reason in (Reason.TIMEOUT, Reason.NO_IMAGE)
        assert not late or self.now >= due, "a timeout before the deadline"
        assert verdict.outcome is not Outcome.PASS or self.now < due, "a pass after the deadline"
        assert verdict.deadline_ns == due, "another deadline than the one journaled"
        assert verdict.decided_ns == self.now
        self.counts[(verdict.reason or verdict.outcome).value] += 1
        self.store.append(action)

    def on_publish(self, action: Publish):
        key = action.committed.verdict.unit_key
        assert key in self.log, "published before it was committed"
        assert key not in self.published, "published twice"
        self.published.add(key)

    def on_release(self, action: Release):
        assert action.slot not in self.reading.values(), "a worker still reads this slot"
        assert self.waiting.pop(action.slot, None) is not None, "released twice"
        self.slots.append(action.slot)

    def on_reply(self, action: Reply):
        assert self.tickets[action.ticket] == 0, "a reply after the final one"
        self.tickets[action.ticket] += action.final

    def on_note(self, action: Note | SequenceReset):
        self.counts[getattr(action, "kind", "reset")] += 1

    checks: ClassVar[dict[type[Action], Callable[..., None]]] = {
        Journal: on_journal,
        Dispatch: on_dispatch,
        Commit: on_commit,
        Publish: on_publish,
        Release: on_release,
        Reply: on_reply,
        Note: on_note,
        SequenceReset: on_note,
    }


def live(world, rng, events):
    """A line at work: bursts, duplicates, conflicts, gaps, faults, lost workers, slow disks."""
    units = iter(range(1, events))
    newest = [0]

    def new_unit():
        newest[0] = next(units)
        world.offer(unit_id=str(newest[0]), camera="top")

    parts = [0]

    def announce():
        parts[0] += 1
        world.expect(parts[0])

    def seen():
        """One of the newest parts, announced or not; some are never seen."""
        trigger_id, camera = max(1, parts[0] - rng.randrange(-1, 3)), rng.choice(CAMERAS)
        world.offer(trigger_id=trigger_id, camera=camera, digest=10**8 + trigger_id)

    def stale():
        budget_us = rng.choice([None, 0, 3000])
        world.offer(budget_us=budget_us, time_zero_ns=world.now - 5 * MS)

    habits = {
        new_unit: 120,
        lambda: world.offer(unit_id=str(newest[0]), camera="side"): 100,
        stale: 50,
        announce: 30,
        seen: 45,
        lambda: world.offer(fault=Reason.BAD_INPUT, detail="cut", camera="wrong"): 20,
        lambda: world.offer_again(rng.randrange(300), rng.random() < 0.2): 50,
        lambda: world.offer_numbered(rng.choice([1, 1, 1, 1, 2, 3, -1, -2, 500])): 80,
        lambda: world.worker(rng.randrange(9), rng.choice(list(Outcome))): 180,
        world.lose_workers: 1,
        lambda: world.store_batch(rng.randrange(8)): 250,
        lambda: world.pass_time(int(rng.expovariate(1 / (2 * MS)))): 150,
    }
    fed = ("Offered", "Journaled", "Inspected", "Settled", "Tick", "Capacity", "WorkerLost")
    while sum(world.counts[kind] for kind in fed) < events:
        for habit in rng.choices(list(habits), list(habits.values()), k=50):
            habit()
    world.drain()


def test_a_hundred_thousand_events_keep_every_promise(capsys):
    seed = 20260
    world = World()
    live(world, random.Random(seed), 100_000)
    with capsys.disabled():
        counts = dict(sorted(world.counts.items()))
        sys.stdout.write(f"\ndocket simulation, seed {seed}: {counts}\n")
    for seen in (
        "timeout",
        "no_image",
        "shed",
        "conflict",
        "duplicate",
        "late",
        "reset",
        "stored",
        "announced",
    ):
        assert world.counts[seen] > 10, f"{seen} hardly happened"
    assert world.counts["lost workers"] > 10


class TimerOff(Docket):
    """Control: deadlines are never looked at."""

    def _expire(self):
        pass


class GapsOff(Docket):
    """Control: missing numbers are not awaited."""

    def __init__(self, *given):
        super().__init__(*given)
        self._numbers._await = lambda missing, after: None  # type: ignore[method-assign]


class ExpectsNothing(Docket):
    """Control: announced units are not awaited."""

    def __init__(self, *given):
        super().__init__(*given)
        self._numbers.expect = lambda head, cameras: None  # type: ignore[method-assign]


class ReleasesEarly(Docket):
    """Control: a slot is given back at the verdict, whoever reads it."""

    def _commit(self, unit, conflict=None):
        super()._commit(unit, conflict)
        for part in unit.parts.values():
            self._desk.let_go(part)


class ForgetsUnits(Docket):
    """Control: what is offered again is a new unit."""

    def _again_open(self, unit, head):
        self._open.pop(unit.key)
        self._accept(None, head, copy=False)


@pytest.mark.parametrize(
    ("docket_type", "caught"),
    [
        (TimerOff, "deadline passed"),
        (GapsOff, "deadline passed|next_due"),
        (ExpectsNothing, "deadline passed|next_due"),
        (ReleasesEarly, "still reads"),
        (ForgetsUnits, "another deadline|verdict too many"),
    ],
)
def test_a_docket_without_a_protection_is_caught(docket_type, caught):
    with pytest.raises(AssertionError, match=caught):
        live(World(docket_type), random.Random(1), 20_000)


def test_a_docket_without_a_queue_bound_is_caught():
    with pytest.raises(AssertionError, match="longer than its bound"):
        live(World(max_queue=10**6), random.Random(1), 20_000)


class Machine(RuleBasedStateMachine):
    """The same world, driven and shrunk by hypothesis."""

    def __init__(self):
        super().__init__()
        self.world = World(remembered=3)

    @rule(
        unit=st.integers(1, 4),
        camera=st.sampled_from([*CAMERAS, "wrong"]),
        digest=st.integers(1, 2),
        budget_us=st.sampled_from([None, 0, 3000]),
        fault=st.sampled_from([None, None, Reason.CAMERA_FAULT]),
    )
    def offer(self, unit, camera, digest, budget_us, fault):
        self.world.offer(
            unit_id=str(unit), camera=camera, digest=digest, budget_us=budget_us, fault=fault
        )

    @rule()
    def offer_advisory(self):
        self.world.offer()

    @rule(step=st.sampled_from([1, 2, 5, 500, -1, -2, -3]))
    def offer_numbered(self, step):
        self.world.offer_numbered(step)

    @rule(trigger_id=st.integers(1, 4))
    def expect(self, trigger_id):
        self.world.expect(trigger_id)

    @rule(trigger_id=st.integers(1, 4), camera=st.sampled_from(CAMERAS), digest=st.integers(1, 2))
    def offer_part(self, trigger_id, camera, digest):
        self.world.offer(trigger_id=trigger_id, camera=camera, digest=digest)

    @rule(back=st.integers(0, 9), other=st.booleans())
    def offer_again(self, back, other):
        self.world.offer_again(back, other)

    @rule(rows=st.integers(1, 4))
    def store(self, rows):
        self.world.store_batch(rows)

    @rule(which=st.integers(0, 2), outcome=st.sampled_from(list(Outcome)))
    def answer(self, which, outcome):
        self.world.worker(which, outcome)

    @rule()
    def lose(self):
        self.world.lose_workers()

    @rule(us=st.integers(0, 30_000))
    def wait(self, us):
        self.world.pass_time(us * 1000)

    @invariant()
    def promises(self):
        self.world.check()

    def teardown(self):
        self.world.drain()


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
