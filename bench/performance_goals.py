"""What was wanted of speed, and where in the kept results of the benches it is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]
RULES = "python -m bench.bench_rules"
PEERS = "../peers/bin/python -m bench.bench_peers"
PIPELINE = "edge-inspector bench pipeline"
SWEEP = "edge-inspector bench pipeline --sweep --workers 2"
BACKEND = "edge-inspector bench backend"
SLOW_SYNC = "python -m bench.bench_slow_sync"


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of the newest result of a bench that has it; `most` or `least` is the limit."""

    what: str
    bench: str
    value: Callable[[Result], float]
    limit: float
    command: str
    unit: str = ""
    least: bool = False
    where: Callable[[Result], bool] = lambda _: True

    def met(self, found: float) -> bool:
        """Whether a figure is within the limit."""
        return found >= self.limit if self.least else found <= self.limit


@dataclass(frozen=True, slots=True)
class Finding:
    """A goal with its figure and the result it is of; None where it was not run."""

    goal: Goal
    figure: float | None
    result: Result | None


def find(goal: Goal, results: Sequence[Result]) -> Finding:
    """Look in the newest result first; one of an older form, which lacks the figure, is passed by."""
    for result in reversed(results):
        if result["bench"] != goal.bench:
            continue
        try:
            if goal.where(result):
                return Finding(goal, goal.value(result), result)
        except (KeyError, StopIteration, TypeError):
            continue
    return Finding(goal, None, None)


def newest(results: Sequence[Result], bench: str, **having: Any) -> Result | None:
    """The last result of a bench whose fields are these; `rows=...` asks that there is such a field."""
    for result in reversed(results):
        fits = all(key in result and value in (..., result[key]) for key, value in having.items())
        if result["bench"] == bench and fits:
            return result
    return None


def sweeps(results: Sequence[Result]) -> list[Result]:
    """The newest sweep of each case, number of workers and runner, with its rows and where it ran."""
    found: dict[tuple[Any, ...], Result] = {}
    for result in results:
        for peak in result.get("peaks", ()):
            key = (peak["case"], peak["workers"], result["runner"])
            same = [r for r in result["rows"] if (r["case"], r["workers"]) == key[:2]]
            about = {name: result[name] for name in ("engine", "runner", "date", "commit", "cpu")}
            found[key] = {**peak, **about, "rows": same}
    return list(found.values())


def _rules(turn: int, threads: int = 1) -> Callable[[Result], bool]:
    return lambda r: (r["turn"], r["threads"]) == (turn, threads)


def recall_lack(result: Result) -> float:
    """By how much the engine's recall is at most below the rules', over kinds the rules mostly see."""
    runner, form = result["fastest"]
    mine, theirs = (result["rows"][name]["per_class"] for name in (runner, form))
    return max(float(theirs[kind]) - float(mine[kind]) for kind in theirs if theirs[kind] >= 0.5)


def _fastest_ms(result: Result) -> float:
    return float(result["rows"][result["fastest"][0]]["ms"]["p50"])


def _peak(result: Result, case: str, key: str) -> float:
    found = [float(row[key]) for row in result["peaks"] if row["case"] == case]
    if not found:
        raise KeyError(case)
    return max(found)


def _at_most(case: str) -> Callable[[Result], float]:
    return lambda result: _peak(result, case, "at_most_hz")


def _batched_hz(result: Result) -> float:
    fastest = result["runners"][result["fastest_batch_16"]]
    return 1000 / float(fastest["batch_16_ms"]["p50"])


def _backend_ms(result: Result) -> float:
    return float(result["runners"][result["fastest"]]["ms"]["p50"])


ONE = "256x256, 1 region"
GOALS = (
    Goal(
        "shipped BGA engine / fastest form of the rules, one core, medians, 20 crops a turn",
        "rules", lambda r: float(r["ratio"]), 0.5, f"{RULES} --turn 20", where=_rules(20),
    ),
    Goal(
        "the same, a crop a turn: each finds the caches as the others left them",
        "rules", lambda r: float(r["ratio"]), 0.5, RULES, where=_rules(1),
    ),
    Goal(
        "its crop to verdict, one core, median, 20 crops a turn",
        "rules", _fastest_ms, 0.5, f"{RULES} --turn 20", "ms", where=_rules(20),
    ),
    Goal(
        "its recall below the rules' at 0.5 % overkill, on the worst kind that rules see",
        "rules", recall_lack, 0.0, RULES, where=_rules(1),
    ),
    Goal(
        "`sure`, one core, 256x256", "backend", _backend_ms, 20.0,
        f"{BACKEND} --engine FOLDER", "ms",
        where=lambda r: r["engine"].startswith("sure") and r["threads"] == 1,
    ),
    Goal(
        "`sensitive` / the fastest anomalib model, float32, one core",
        "peers", lambda r: float(r["ratio"]), 1 / 90, PEERS, where=lambda r: r["threads"] == 1,
    ),
    Goal(
        "committed verdict received - socket in - inference, p99, 256x256 at 100/s",
        "pipeline", lambda r: float(r["socket_overhead_ms"]["p99"]), 2.5, PIPELINE, "ms",
        where=lambda r: r["rate_hz"] == 100.0,
    ),
    Goal(
        "sustained, two cores, one 256x256 region a unit, all committed",
        "pipeline", _at_most(ONE), 1000, SWEEP, "units/s", least=True,
    ),
    Goal(
        "scoring alone, two threads, 16 crops at a time",
        "backend", _batched_hz, 2500, f"{BACKEND} --threads 2", "crops/s", least=True,
        where=lambda r: r["threads"] == 2 and r["engine"].startswith("bga"),
    ),
    Goal(
        "640x640x3 frames, 16 regions each", "pipeline", _at_most("640x640x3, 16 regions"),
        100, SWEEP, "frames/s", least=True,
    ),
    Goal(
        "5-megapixel mono frames, aligned, 64 regions", "pipeline",
        _at_most("2560x2080, 64 regions, aligned"), 10, SWEEP, "frames/s", least=True,
    ),
    Goal(
        "fdatasync 30 ms late, both cores loaded, 50 units/s, 100 ms budget: share of timeouts",
        "slow sync", lambda r: r["missed"] / r["units"], 0.001, SLOW_SYNC,
    ),
    Goal(
        "overload x3: goodput / that of the rated load", "pipeline",
        lambda r: _peak(r, ONE, "overload_goodput"), 0.95, SWEEP, least=True,
    ),
    Goal(
        "GPU: crop to answer incl. copies, one crop, p99",
        "gpu", lambda r: float(r["wall_ms"]["graph"]["p99"]), 0.5, "edge-inspector bench gpu", "ms",
    ),
    Goal(
        "GPU: 16 crops at a time",
        "gpu", lambda r: float(r["batches"]["16"]["crops_per_s"]), 20000,
        "edge-inspector bench gpu", "crops/s", least=True,
    ),
)  # fmt: skip
