"""The agreement report as one self-contained page: table, curve, and every disagreement's picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_inspector import clock
from edge_inspector.page.sheet import picture, sheet, table, tag
from edge_inspector.records import Outcome
from edge_inspector.studies.agreement import Agreement, Pair, Point

WIDTH, HEIGHT, MARGIN = 640, 260, 44
OURS, CAUGHT = "#c05020", "#2060a0"


def agreement_page(
    *,
    title: str,
    found: Agreement,
    apart: Sequence[Pair],
    more: int,
    pictures: Mapping[str, Sequence[Path]],
    threshold: float | None,
    remarks: Sequence[str],
) -> str:
    """
    The page as HTML text.

    `apart` are the disagreements to show and `more` how many others there are; `pictures` holds
    PNG files by unit key.
    """
    headings = ["", *(f"there {outcome.value}" for outcome in Outcome)]
    rows = [
        (f"here {ours.value}", *(found.table.get((ours, theirs), 0) for theirs in Outcome))
        for ours in Outcome
    ]
    body = [tag("h1", title), table(headings, rows), tag("p", _summary(found))]
    body += [tag("p", remark) for remark in remarks]
    if found.curve:
        body += [tag("h2", "What would have happened at which threshold")]
        body += [curve_svg(found.curve, threshold)]
    body += [tag("h2", f"{found.only_ours + found.only_theirs} disagreements")]
    body += [_article(pair, pictures.get(pair.unit_key, ())) for pair in apart]
    body += [tag("p", f"{more} older ones are not shown.", "dim")] if more else []
    return sheet(title, body)


def curve_svg(points: Sequence[Point], threshold: float | None) -> str:
    """Both shares over the threshold, as an SVG; the threshold in force is a dashed line."""
    low, high = points[0].threshold, points[-1].threshold
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return MARGIN + (value - low) / span * (WIDTH - 2 * MARGIN)

    def y(share: float) -> float:
        return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)

    def line(shares: Sequence[float], colour: str) -> str:
        way = " ".join(
            f"{x(p.threshold):.1f},{y(s):.1f}" for p, s in zip(points, shares, strict=True)
        )
        return f'<polyline fill="none" stroke-width="2" stroke="{colour}" points="{way}"/>'

    marks = "".join(
        f'<text x="{MARGIN - 6}" y="{y(s) + 4:.1f}" text-anchor="end">{s:.0%}</text>'
        for s in (0, 0.5, 1)
    ) + "".join(
        f'<text x="{x(v):.1f}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{v:.3g}</text>'
        for v in (low, high)
    )
    now = ""
    if threshold is not None:
        at = f"{x(threshold):.1f}"
        now = (
            f'<line x1="{at}" x2="{at}" y1="{MARGIN / 2}" y2="{HEIGHT - MARGIN}" stroke="currentColor" '
            f'stroke-dasharray="4 3"/><text x="{at}" y="{MARGIN / 2 - 4}" text-anchor="middle">'
            f"in force: {threshold:.4g}</text>"
        )
    legend = (
        f'<text x="{MARGIN}" y="{HEIGHT - 6}" fill="{OURS}">rejects of units that the other side '
        f'passed</text><text x="{WIDTH - MARGIN}" y="{HEIGHT - 6}" text-anchor="end" '
        f'fill="{CAUGHT}">rejects of units that it failed</text>'
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" font-size="12" fill="currentColor" role="img">{marks}'
        f"{line([p.rejected for p in points], OURS)}{line([p.caught for p in points], CAUGHT)}"
        f"{now}{legend}</svg>"
    )


def _summary(found: Agreement) -> str:
    if found.share is None or found.p_value is None:
        return "No unit was judged by both sides."
    share, low, high = found.share
    text = (
        f"{found.judged} units were judged by both: {share:.2%} alike (95 % interval {low:.2%} to "
        f"{high:.2%}). {found.only_ours} failed here alone, {found.confirmed} of them confirmed by "
        f"a person; {found.only_theirs} failed there alone. McNemar's exact test: "
        f"p = {found.p_value:.3g}."
    )
    for side, times in (("here", found.our_ms), ("there", found.their_ms)):
        if times is not None:
            text += (
                f" Verdicts {side}: {times[0]:.1f} ms median, {times[1]:.1f} ms 99th percentile."
            )
    return text


def _article(pair: Pair, pictures: Sequence[Path]) -> str:
    theirs = "" if pair.theirs is None else pair.theirs.value
    named = f" ({pair.their_class})" if pair.their_class else ""
    score = "" if pair.score is None else f", score {pair.score:.3f}"
    lines = [
        tag("h2", pair.unit_key + (" confirmed defective" if pair.confirmed else "")),
        tag("p", f"here {pair.ours.value}{score}; there {theirs}{named}. {pair.detail}"),
        *(picture(path, f"{pair.unit_key}: crop and map") for path in pictures),
    ]
    lines += [] if pictures else [tag("p", "no picture was kept", "dim")]
    lines += [tag("p", clock.utc_text(pair.settled_utc_ns), "dim")]
    return "\n".join(["<article>", *lines, "</article>"])
