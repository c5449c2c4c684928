"""What the outputs of a discrete sink must show and when: pure, and off wherever in doubt."""

from __future__ import annotations

from collections import Counter, deque

from edge_inspector.channel import Pulse
from edge_inspector.clock import NS_PER_MS
from edge_inspector.records import Outcome, Verdict

SILENT_NS = 300 * NS_PER_MS
"""Three pulses of core."""
MAX_WINDOWS = 256
"""Units between trigger and gate."""
_SERVING = ("ready", "degraded")


class Relays:
    """
    Verdicts and pulses in; whether the pass output is on, and which way the watchdog stands.

    A unit is at the gate for `window_ns`, `delay_ns` after its time zero. Where the windows of two
    units overlap, both must have passed.
    """

    def __init__(self, delay_ns: int, window_ns: int, beat_ns: int) -> None:
        self.counts: Counter[str] = Counter()
        self.watchdog = False
        self._delay_ns, self._window_ns, self._beat_ns = delay_ns, window_ns, beat_ns
        self._windows: deque[tuple[int, int, bool]] = deque(maxlen=MAX_WINDOWS)
        """Start, end, whether the unit passed."""
        self._newest = 0
        self._toggle: bool | None = None
        self._moved_ns = -SILENT_NS
        self._flip_ns = 0
        self._serving = False

    def settled(self, verdict: Verdict, now_ns: int) -> None:
        """A verdict, fresh from core; one that was known or is too old opens nothing."""
        if verdict.vseq <= self._newest:
            return
        self._newest = verdict.vseq
        starts_ns = verdict.time_zero_ns + self._delay_ns
        age_ns = now_ns - verdict.time_zero_ns
        passed = verdict.outcome is Outcome.PASS and not verdict.advisory
        valid = 0 <= age_ns < verdict.valid_us * 1000 and now_ns <= starts_ns
        self.counts["discrete_late"] += passed and not valid
        self.counts["discrete_passes"] += passed and valid
        self._windows.append((starts_ns, starts_ns + self._window_ns, passed and valid))

    def pulse(self, pulse: Pulse, now_ns: int) -> None:
        """Core lives; its toggle changes only while ingest, a worker and the store all move."""
        if pulse.toggle is not self._toggle:
            self._toggle, self._moved_ns = pulse.toggle, now_ns
        self._serving = pulse.state in _SERVING

    def passing(self, now_ns: int) -> bool:
        """Whether all units that are at the gate now have passed, and there is one."""
        at_gate = [passed for start, end, passed in self._windows if start <= now_ns < end]
        return bool(at_gate) and all(at_gate) and self._alive(now_ns)

    def beat(self, now_ns: int) -> bool:
        """Which way the watchdog output stands; it changes only while the station makes progress."""
        if now_ns >= self._flip_ns and self._alive(now_ns):
            self.watchdog = not self.watchdog
            self._flip_ns = now_ns + self._beat_ns
        return self.watchdog

    def next_change_ns(self, now_ns: int) -> int:
        """When to look again at the latest, where nothing is heard before."""
        while self._windows and self._windows[0][1] <= now_ns:
            self._windows.popleft()
        edges = [edge for start, end, _ in self._windows for edge in (start, end) if edge > now_ns]
        edges += [self._flip_ns] if self._flip_ns > now_ns else []
        return min([*edges, now_ns + self._beat_ns])

    def _alive(self, now_ns: int) -> bool:
        return self._serving and now_ns - self._moved_ns < SILENT_NS
