"""`promote`: ends observing; from the next start on the station drives what it is wired to."""

from __future__ import annotations

import argparse
import getpass
import json
from pathlib import Path
from typing import Any

from edge_inspector.errors import Misuse
from edge_inspector.observe.quiet import told
from edge_inspector.recipe import load_recipe
from edge_inspector.settings import load_settings
from edge_inspector.studies import audit
from edge_inspector.studies.agreement import Agreement, agree
from edge_inspector.studies.metrics import rounded
from edge_inspector.studies.observed import Observed, observe


def add_promote(parser: argparse.ArgumentParser) -> None:
    """Arguments of `promote`."""
    parser.add_argument("station", type=Path, metavar="STATION", help="station.toml")
    parser.add_argument("--by", metavar="NAME", help="who, for the audit row; default: the user")
    parser.add_argument("--incumbent", type=Path, metavar="CSV", help="its verdicts by id")
    parser.add_argument(
        "--alone", action="store_true", help="also where there is no incumbent to compare with"
    )
    parser.add_argument("--json", action="store_true", help="print the audit row")


def run_promote(args: argparse.Namespace) -> int:
    """0 when nothing observes any more, 1 while the station's settings still say so."""
    settings = load_settings(args.station)
    recipe = load_recipe(settings.recipe)
    if not told(settings, recipe):
        raise Misuse(
            f"recipe '{recipe.product}' version {recipe.version} does not observe, and no sink "
            "does; there is nothing to promote"
        )
    observed = observe(settings, recipe, incumbent=args.incumbent)
    found = agree(observed.pairs)
    _enough(observed, found, alone=args.alone)
    calibration = recipe.calibration
    figures: dict[str, Any] = {
        "units": len(observed.pairs),
        "pairs": found.judged,
        "agreement": found.share,
        "only_ours": found.only_ours,
        "only_theirs": found.only_theirs,
        "confirmed": found.confirmed,
        "mcnemar_p": found.p_value,
        "threshold": calibration.threshold if calibration else None,
        "promised_overkill": calibration.promised_overkill if calibration else None,
        "provisional": calibration.provisional if calibration else None,
    }
    after = audit.revise(
        settings.recipe,
        settings.store,
        "promote",
        args.by or getpass.getuser(),
        lambda document: document.update({"observe": False}) if recipe.observe else None,
        rounded(figures, 6),
    )
    left = told(settings, after)
    if args.json:
        print(json.dumps({"version": after.version, **rounded(figures, 6), "left": left}))
    else:
        print(
            f"recipe '{after.product}' version {after.version} no longer observes, on "
            f"{len(observed.pairs)} units, {found.judged} with the incumbent's verdict "
            f"({found.only_ours} failed here alone, {found.only_theirs} there alone); "
            "restart the station to put it in force"
        )
        if calibration is not None and calibration.provisional:
            print(
                f"its threshold is PROVISIONAL: unit overkill at most "
                f"{calibration.promised_overkill:.3%}, from {calibration.units} good units; "
                "'edge-inspector agreement --tighten' rests it on those observed since"
            )
        if left:
            print(f"{args.station} still observes ({left}); remove observe = true there")
    return 1 if left else 0


def _enough(observed: Observed, found: Agreement, *, alone: bool) -> None:
    """Raises `Misuse` where nothing was observed."""
    units = len(observed.pairs)
    if units and (found.judged or alone):
        return
    raise Misuse(
        f"nothing was observed that speaks for this recipe: {units} units judged with it as it is "
        f"({observed.elsewhere} with it in another state), {found.judged} of them also by the "
        "incumbent; run the station on, give --incumbent CSV, or say --alone where there is no "
        "incumbent and units were judged"
    )
