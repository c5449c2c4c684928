"""What was taught, in words: what it promises, on what that rests, and what it cannot see."""

from __future__ import annotations

from collections.abc import Iterator

from edge_inspector.studies.calibrate import units_needed
from edge_inspector.training.teach import Taught
from edge_inspector.training.teach_composed import Caught

SURELY, HARDLY = 0.9, 0.5
"""Shares of the composed defects from which they count as seen, and below which as not seen."""
NEARLY_BLIND = 0.2
"""Share of all composed defects below which a recipe is not worth promoting."""


def words(taught: Taught) -> Iterator[str]:
    """The report, a line each."""
    yield from _promise(taught)
    yield from _frames(taught)
    yield from (f"tools of '{name}': {said}" for name, said in taught.tools.items())
    yield from _sight(taught.caught)
    yield from _incumbent(taught)
    yield from _look(taught)
    yield (
        f"{taught.recipe} is version {taught.version} and OBSERVES: every unit is judged and "
        "nothing is driven, until 'edge-inspector promote'; a station that runs takes it when it "
        "is started again"
    )


def _promise(taught: Taught) -> Iterator[str]:
    table = taught.calibration
    yield (
        f"promise: at most {table.promised_overkill:.2%} of good units like these will fail, with "
        f"{table.confidence:.0%} confidence; it rests on {table.units} good units that no engine "
        f"learned from, {table.set_aside} more were set aside as probably defective"
    )
    if table.provisional:
        needed = units_needed(table.overkill, table.confidence)
        yield (
            f"PROVISIONAL: {table.overkill:.2%} was asked for and needs {needed} such units, so "
            f"record {2 * needed} in all, or let it observe"
        )


def _frames(taught: Taught) -> Iterator[str]:
    for camera, (refused, frames) in taught.refused_frames.items():
        yield (
            f"frames of '{camera}' are held to the light, focus and place of these; held out, "
            f"that refuses {refused} of {frames} good ones"
        )
    if taught.skipped:
        name, reason = next(iter(taught.skipped.items()))
        yield (
            f"NOT IN THE PROMISE: {len(taught.skipped)} good units could not be judged and would "
            f"be uninspected, as {name}: {reason}"
        )


def _sight(caught: tuple[Caught, ...]) -> Iterator[str]:
    hits, drawn = sum(one.caught for one in caught), sum(one.drawn for one in caught)
    if hits < NEARLY_BLIND * drawn:
        yield (
            f"NEARLY BLIND: {hits} of {drawn} composed defects were caught, so do not promote this; "
            "units that differ less from each other would help: one product, held or aligned the "
            "same way, smaller regions, more units"
        )
    kinds = dict.fromkeys(one.kind for one in caught)
    for kind in kinds:
        shown = [one for one in caught if one.kind == kind and one.drawn]
        if not shown:
            yield f"composed defects, {kind}: none could be drawn that shows in these frames"
            continue
        told = ", ".join(f"{o.caught} of {o.drawn} of {o.size_px:g} px" for o in shown)
        yield f"composed defects, {kind}: caught {told}; {_verdict(shown)}"


def _verdict(drawn: list[Caught]) -> str:
    rates = {one.size_px: one.caught / one.drawn for one in drawn}
    seen = [size for size in rates if all(rates[s] >= SURELY for s in rates if s >= size)]
    blind = [size for size in rates if rates[size] < HARDLY]
    if seen:
        return f"from {min(seen):g} px on they are seen"
    if blind:
        return f"it is BLIND to most of them up to {max(blind):g} px"
    return "some of each size pass"


def _incumbent(taught: Taught) -> Iterator[str]:
    if taught.failed:
        total = sum(taught.failed.values())
        yield (
            f"of {total} units that the incumbent failed, {taught.failed['fail']} fail here too, "
            f"{taught.failed['pass']} pass and {taught.failed['uninspected']} cannot be inspected"
        )


def _look(taught: Taught) -> Iterator[str]:
    names = ", ".join(name for name, _ in taught.suspicious)
    yield f"look at {taught.sheet}: the good units that stand out most, the worst first: {names}"
    yield "if one is defective, run the same again with --drop ID for each"
