"""`agreement`: what this station and the inspection that is already there say of the same units."""

from __future__ import annotations

import argparse
import getpass
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_inspector.errors import Misuse
from edge_inspector.logs import printable
from edge_inspector.observe.incumbents import confirm
from edge_inspector.page.agreement import agreement_page
from edge_inspector.recipe import Recipe, load_recipe
from edge_inspector.records import Baseline, Outcome
from edge_inspector.settings import Settings, load_settings
from edge_inspector.studies import audit
from edge_inspector.studies.agreement import Agreement, Pair, agree, good_scores
from edge_inspector.studies.metrics import rounded
from edge_inspector.studies.observed import Observed, find_unit, observe
from edge_inspector.studies.rejects import pictures_of
from edge_inspector.studies.since import since_utc_ns
from edge_inspector.studies.tighten import tighten, write_threshold
from edge_inspector.wire.incumbent import incumbent_text

SHOWN = 12
ON_PAGE = 60


def add_agreement(parser: argparse.ArgumentParser) -> None:
    """Arguments of `agreement`."""
    parser.add_argument("station", type=Path, metavar="STATION", help="station.toml")
    parser.add_argument("--since", metavar="TIME", help="1h, 30m, 2d, or 2026-03-31T14:00")
    parser.add_argument("--incumbent", type=Path, metavar="CSV", help="its verdicts by id")
    parser.add_argument(
        "--other",
        choices=("incumbent", "rules", "shadow"),
        default="incumbent",
        help="the other side; default: incumbent",
    )
    parser.add_argument(
        "--confirm",
        action="append",
        default=[],
        metavar="ID",
        help="a person found this unit defective: it does not count as good",
    )
    parser.add_argument(
        "--tighten", action="store_true", help="set the threshold anew by the good units observed"
    )
    parser.add_argument(
        "--loosen", action="store_true", help="with --tighten: also where more gets through"
    )
    parser.add_argument("--by", metavar="NAME", help="who, for the audit row; default: the user")
    parser.add_argument("--html", type=Path, metavar="OUT", help="one page with pictures")
    parser.add_argument("--json", action="store_true", help="print the report as one object")


def run_agreement(args: argparse.Namespace) -> int:
    """0 with a report; misuse where there is nothing to compare with or to tighten by."""
    settings = load_settings(args.station)
    recipe = load_recipe(settings.recipe)
    asked: dict[str, Any] = {
        "other": args.other,
        "since_utc_ns": since_utc_ns(args.since),
        "incumbent": args.incumbent,
    }
    observed = observe(settings, recipe, **asked)
    for wanted in args.confirm:
        confirm(settings.store, find_unit(observed, wanted))
    if args.confirm:
        observed = observe(settings, recipe, **asked)
    found = agree(observed.pairs)
    remarks = told(observed, found, settings, recipe)
    if args.tighten or args.loosen:
        if args.other != "incumbent":
            raise Misuse("--tighten goes by the incumbent's verdicts; leave --other out")
        remarks.append(_tighten(args, settings, recipe, observed))
    if args.html is not None:
        _write_page(args, settings, recipe, observed, found, remarks)
    if args.json:
        print(json.dumps(rounded(report(observed, found, recipe, remarks), 6)))
    else:
        _show(args.other, observed, found, remarks)
    return 0


def told(observed: Observed, found: Agreement, settings: Settings, recipe: Recipe) -> list[str]:
    """What a reader must know beside the figures."""
    units = len(observed.pairs)
    remarks = []
    if found.unanswered == units:
        remarks.append(
            f"the other side never answered: none of {units} units has its verdict; look at "
            "[incumbent], the metadata key `incumbent`, or give --incumbent CSV"
        )
    elif found.unanswered:
        remarks.append(f"the other side said nothing of {found.unanswered} of {units} units")
    if observed.elsewhere:
        remarks.append(
            f"{observed.elsewhere} units were judged with the recipe in another state; left out"
        )
    if found.only_ours + found.only_theirs and settings.archive is None:
        remarks.append("no pictures are kept: give the station an [archive]")
    calibration = recipe.calibration
    if calibration is not None:
        kind = "provisional threshold" if calibration.provisional else "threshold"
        remarks.append(
            f"{kind} {calibration.threshold:.4g}: unit overkill at most "
            f"{calibration.promised_overkill:.3%} at {calibration.confidence:.0%} confidence, from "
            f"{calibration.units} good units"
        )
    return remarks


def report(
    observed: Observed, found: Agreement, recipe: Recipe, remarks: list[str]
) -> dict[str, Any]:
    """The report as one object."""
    return {
        "product": recipe.product,
        "version": recipe.version,
        "observing": recipe.observe,
        "units": len(observed.pairs),
        "elsewhere": observed.elsewhere,
        "unanswered": found.unanswered,
        "judged": found.judged,
        "table": {f"{a.value}/{b.value}": count for (a, b), count in sorted(found.table.items())},
        "only_ours": found.only_ours,
        "only_theirs": found.only_theirs,
        "confirmed": found.confirmed,
        "agreement": None if found.share is None else list(found.share),
        "mcnemar_p": found.p_value,
        "our_ms": None if found.our_ms is None else list(found.our_ms),
        "their_ms": None if found.their_ms is None else list(found.their_ms),
        "threshold": recipe.calibration.threshold if recipe.calibration else None,
        "curve": [[p.threshold, p.rejected, p.caught] for p in found.curve],
        "disagreements": [_facts(pair) for pair in observed.pairs if pair.disagrees],
        "remarks": remarks,
    }


def _facts(pair: Pair) -> dict[str, Any]:
    return {
        "unit": pair.unit_key,
        "ours": pair.ours.value,
        "theirs": pair.theirs.value if pair.theirs else None,
        "score": pair.score,
        "detail": pair.detail,
        "their_class": pair.their_class,
        "confirmed": pair.confirmed,
    }


def _tighten(
    args: argparse.Namespace, settings: Settings, recipe: Recipe, observed: Observed
) -> str:
    scores = good_scores(observed.pairs)
    new = tighten(recipe, scores, loosen=args.loosen)
    old = recipe.calibration
    assert old is not None
    figures = {
        "threshold": [old.threshold, new.threshold],
        "promised_overkill": [old.promised_overkill, new.promised_overkill],
        "units": [old.units, new.units],
        "set_aside": new.set_aside,
        "provisional": new.provisional,
    }
    after = audit.revise(
        settings.recipe,
        settings.store,
        "tighten",
        args.by or getpass.getuser(),
        lambda document: write_threshold(document, new),
        figures,
    )
    verb = "loosened" if new.threshold > old.threshold else "tightened"
    return (
        f"{verb}: threshold {old.threshold:.4g} -> {new.threshold:.4g}, promise "
        f"{old.promised_overkill:.3%} -> {new.promised_overkill:.3%} on {new.units} units, "
        f"{new.set_aside} set aside; recipe version {after.version}, in force at the next start"
    )


def _write_page(
    args: argparse.Namespace,
    settings: Settings,
    recipe: Recipe,
    observed: Observed,
    found: Agreement,
    remarks: list[str],
) -> None:
    apart = [pair for pair in observed.pairs if pair.disagrees]
    folder = settings.archive.path if settings.archive is not None else None
    page = agreement_page(
        title=f"{settings.station}: {recipe.product} and the {args.other}",
        found=found,
        apart=apart[:ON_PAGE],
        more=len(apart[ON_PAGE:]),
        pictures=pictures_of(folder, {pair.unit_key for pair in apart[:ON_PAGE]}),
        threshold=recipe.calibration.threshold if recipe.calibration else None,
        remarks=remarks,
    )
    args.html.write_text(page, encoding="utf-8")


def _show(other: str, observed: Observed, found: Agreement, remarks: list[str]) -> None:
    console = Console()
    table = Table("this station", *(f"{other}: {o.value}" for o in Outcome))
    for ours in Outcome:
        row = (str(found.table.get((ours, theirs), 0)) for theirs in Outcome)
        table.add_row(ours.value, *row)
    console.print(table)
    if found.share is not None:
        share, low, high = found.share
        console.print(
            f"{found.judged} units judged by both: {share:.2%} alike ({low:.2%} to {high:.2%}); "
            f"{found.only_ours} failed here alone, {found.confirmed} of them confirmed; "
            f"{found.only_theirs} failed there alone; McNemar p = {found.p_value:.3g}"
        )
    for name, times in (("this station", found.our_ms), (other, found.their_ms)):
        if times is not None:
            console.print(f"{name}: {times[0]:.1f} ms median, {times[1]:.1f} ms 99th percentile")
    apart = [pair for pair in observed.pairs if pair.disagrees]
    for pair in apart[:SHOWN]:
        theirs = incumbent_text(Baseline(pair.theirs or Outcome.UNINSPECTED, pair.their_class))
        score = "" if pair.score is None else f" score {pair.score:.3f}"
        line = f"{pair.unit_key}  here {pair.ours.value}{score}, there {theirs}  {pair.detail}"
        console.print(escape(printable(line)))
    if len(apart) > SHOWN:
        console.print(f"and {len(apart) - SHOWN} before them; --html shows them with pictures")
    for remark in remarks:
        console.print(escape(remark))
