"""Rejects as one page: how many and why, then each with its picture, place, score and reason."""

from __future__ import annotations

from collections.abc import Iterator

from edge_inspector import clock
from edge_inspector.page.sheet import picture, sheet, table, tag
from edge_inspector.records import Box, Outcome
from edge_inspector.studies.rejects import Place, Reject, Rejects

HEADINGS = ("region", "class", "place", "size", "score", "threshold", "evidence", "measured")


def rejects_page(found: Rejects, since: str) -> str:
    """The page; `since` says in words from when."""
    title = f"Rejects of {found.station}"
    return sheet(title, [*_summary(found, title, since), *map(_reject, found.shown)])


def _summary(found: Rejects, title: str, since: str) -> Iterator[str]:
    yield tag("h1", title)
    share = f" ({found.rejected / found.units:.2%})" if found.units else ""
    yield tag("p", f"{since}: {found.rejected} of {found.units} units were not passed{share}.")
    if found.rejected > len(found.shown):
        yield tag("p", f"The newest {len(found.shown)} are shown; --limit sets how many.", "dim")
    if found.causes:
        yield table(("cause", "units"), found.causes)


def _reject(reject: Reject) -> str:
    verdict = reject.verdict
    kind = "bad" if verdict.outcome is Outcome.FAIL else "odd"
    lines = [
        tag("h2", name_of(reject)),
        f"<p>{tag('strong', outcome_of(reject), kind)} {tag('span', verdict.detail)}</p>",
    ]
    if reject.places:
        rows = [_row(place) for place in reject.places]
        lines.append(table(HEADINGS, rows))
    lines += [picture(path, f"{name_of(reject)}: crop and maps") for path in reject.pictures]
    if not reject.pictures:
        lines.append(tag("p", "no picture was kept", "dim"))
    if verdict.degraded:
        lines.append(tag("p", f"left out: {', '.join(verdict.degraded)}", "odd"))
    facts = (
        f"verdict {verdict.vseq}, {clock.utc_text(verdict.settled_utc_ns)}, recipe "
        f"{verdict.recipe} version {verdict.recipe_version}, {verdict.latency_us / 1000:.1f} ms"
    )
    return "\n".join(["<article>", *lines, tag("p", facts, "dim"), "</article>"])


def name_of(reject: Reject) -> str:
    """The unit as a person knows it: serial, id, or trigger."""
    verdict = reject.verdict
    name = verdict.serial or verdict.unit_id or verdict.unit_key
    return name if verdict.trigger_id is None else f"{name} (trigger {verdict.trigger_id})"


def outcome_of(reject: Reject) -> str:
    """Outcome with class or reason, score and threshold."""
    verdict = reject.verdict
    text = verdict.outcome.value
    if cause := verdict.reason or verdict.defect_class:
        text += f" ({getattr(cause, 'value', cause)})"
    if verdict.anomaly_score is not None and verdict.threshold is not None:
        text += f", score {verdict.anomaly_score:.3g} against {verdict.threshold:.3g}"
    return text


def class_text(place: Place) -> str:
    """The defect class, with its probability where a classifier named it."""
    sure = "" if place.probability is None else f" (probability {place.probability:.3g})"
    return f"{place.defect_class}{sure}"


def place_text(place: Place) -> str:
    """Where the suspicious place begins, in px of the frame, and in mm where there is a scale."""
    if place.box_px is None:
        return ""
    text = f"x {place.box_px[0]}, y {place.box_px[1]} px"
    return text + (f" ({place.box_mm[0]:g}, {place.box_mm[1]:g} mm)" if place.box_mm else "")


def size_text(place: Place) -> str:
    """How large it is, in px, and in mm where there is a scale."""
    if place.box_px is None:
        return ""
    text = _sides(place.box_px, "px")
    return f"{text} ({_sides(place.box_mm, 'mm')})" if place.box_mm else text


def _sides(box: Box | tuple[float, float, float, float], unit: str) -> str:
    return f"{box[2]:g} x {box[3]:g} {unit}"


def _row(place: Place) -> tuple[object, ...]:
    threshold = "" if place.threshold is None else round(place.threshold, 3)
    region = f"{place.camera}: {place.region}" if place.camera != "main" else place.region
    score = round(place.score, 3)
    where = (place_text(place), size_text(place))
    return region, class_text(place), *where, score, threshold, place.spoke, place.detail
