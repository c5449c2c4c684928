"""The agreement report as one self-contained page: table, curve, and every disagreement's picture."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

from edge_inspector import clock
from edge_inspector.records import Outcome
from edge_inspector.studies.agreement import Agreement, Pair, Point

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.3rem .8rem;text-align:right}
th{background:#f2f2f2}.apart{background:#fbe3d6}.cards{display:flex;flex-wrap:wrap;gap:1rem}
figure{margin:0;border:1px solid #ccc;padding:.5rem;max-width:34rem}img{max-width:100%}
figcaption{font-size:13px;overflow-wrap:anywhere}.line{stroke-width:2;fill:none}
"""
WIDTH, HEIGHT, MARGIN = 640, 260, 44
OURS, CAUGHT = "#c05020", "#2060a0"


def agreement_page(
    *,
    title: str,
    found: Agreement,
    apart: Sequence[Pair],
    more: int,
    pictures: Mapping[str, bytes],
    threshold: float | None,
    remarks: Sequence[str],
) -> str:
    """
    The page as HTML text.

    `apart` are the disagreements to show and `more` how many others there are; `pictures` holds
    PNG files by unit key.
    """
    parts = [
        f"<h1>{escape(title)}</h1>",
        _table(found),
        f"<p>{escape(_summary(found))}</p>",
        "".join(f"<p>{escape(remark)}</p>" for remark in remarks),
    ]
    if found.curve:
        parts += ["<h2>What would have happened at which threshold</h2>"]
        parts += [curve_svg(found.curve, threshold)]
    parts += [f"<h2>{found.only_ours + found.only_theirs} disagreements</h2>"]
    parts += ['<div class="cards">', *(_card(pair, pictures) for pair in apart), "</div>"]
    parts += [f"<p>{more} older ones are not shown.</p>"] if more else []
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


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
        return f'<polyline class="line" stroke="{colour}" points="{way}"/>'

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
            f'<line x1="{at}" x2="{at}" y1="{MARGIN / 2}" y2="{HEIGHT - MARGIN}" stroke="#444" '
            f'stroke-dasharray="4 3"/><text x="{at}" y="{MARGIN / 2 - 4}" text-anchor="middle">'
            f"in force: {threshold:.4g}</text>"
        )
    legend = (
        f'<text x="{MARGIN}" y="{HEIGHT - 6}" fill="{OURS}">rejects of units that the other side '
        f'passed</text><text x="{WIDTH - MARGIN}" y="{HEIGHT - 6}" text-anchor="end" '
        f'fill="{CAUGHT}">rejects of units that it failed</text>'
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" font-size="12" role="img">{marks}'
        f"{line([p.rejected for p in points], OURS)}{line([p.caught for p in points], CAUGHT)}"
        f"{now}{legend}</svg>"
    )


def _table(found: Agreement) -> str:
    head = "".join(f"<th>there {outcome.value}</th>" for outcome in Outcome)
    rows = ""
    for ours in Outcome:
        cells = ""
        for theirs in Outcome:
            apart = {ours, theirs} == {Outcome.PASS, Outcome.FAIL}
            kind = ' class="apart"' if apart else ""
            cells += f"<td{kind}>{found.table.get((ours, theirs), 0)}</td>"
        rows += f"<tr><th>here {ours.value}</th>{cells}</tr>"
    return f"<table><tr><th></th>{head}</tr>{rows}</table>"


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


def _card(pair: Pair, pictures: Mapping[str, bytes]) -> str:
    picture = pictures.get(pair.unit_key)
    shown = "<p>no picture was kept</p>"
    if picture is not None:
        shown = f'<img alt="" src="data:image/png;base64,{b64encode(picture).decode()}">'
    theirs = "" if pair.theirs is None else pair.theirs.value
    named = f" ({pair.their_class})" if pair.their_class else ""
    score = "" if pair.score is None else f", score {pair.score:.3f}"
    words = (
        f"{pair.unit_key}: here {pair.ours.value}{score}, there {theirs}{named}. {pair.detail} "
        f"{clock.utc_text(pair.settled_utc_ns)}"
    )
    confirmed = " <b>confirmed defective</b>" if pair.confirmed else ""
    return f"<figure>{shown}<figcaption>{escape(words)}{confirmed}</figcaption></figure>"
