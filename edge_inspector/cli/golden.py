"""`golden`: units whose verdict is fixed; adds them, judges them again, has a station do so."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_inspector.documents import read_toml
from edge_inspector.errors import Misuse, StoreFault
from edge_inspector.golden import Rejudged, rejudge, said
from edge_inspector.inspector import open_inspector
from edge_inspector.outbox.log import Lock
from edge_inspector.recipe import Golden, load_recipe
from edge_inspector.settings import load_settings
from edge_inspector.studies.audit import revise
from edge_inspector.studies.golden import add_to, append, keep_picture, pictures_of, sample_of

RECORDED = "recorded"


def add_golden(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="add|run|replay")
    add = verbs.add_parser("add", help="fix the verdict of a unit, by its picture or its id")
    add.add_argument("recipe", type=Path, metavar="RECIPE|STATION", help="recipe.toml, or station")
    add.add_argument("unit", metavar="PICTURE|UNIT", help="an image file, or a recorded unit's id")
    add.add_argument("--expect", required=True, metavar="OUTCOME", help="pass, fail or fail:CLASS")
    add.add_argument(
        "--from",
        dest="recorded",
        type=Path,
        metavar="FOLDER",
        help="that 'record' made; default: 'recorded' beside the station's file",
    )
    add.add_argument("--name", help="the sample's name; default: that of the picture or unit")
    add.add_argument("--camera", help="of the picture; default: the recipe's first")
    add.add_argument("--by", metavar="NAME", help="who, for the audit row; default: the user")
    add.add_argument("--anyway", action="store_true", help="also where it is judged otherwise now")
    run = verbs.add_parser("run", help="judge all golden samples now, beside the line")
    run.add_argument("recipe", type=Path, metavar="RECIPE|STATION", help="recipe.toml, or station")
    run.add_argument("--json", action="store_true", help="print the report as one object")
    replay = verbs.add_parser("replay", help="have a running station judge them again")
    replay.add_argument("station", type=Path, help="station.toml")


def run_golden(args: argparse.Namespace) -> int:
    """0 when all are judged as fixed, 1 otherwise."""
    args.store = None
    if args.what != "replay" and "station" in read_toml(args.recipe)[0]:
        beside = args.recipe.resolve().parent / RECORDED
        settings = load_settings(args.recipe)
        args.recipe, args.store = settings.recipe, settings.store
        if args.what == "add" and args.recorded is None and not Path(args.unit).is_file():
            args.recorded = beside if beside.is_dir() else None
    return {"add": _add, "run": _run, "replay": _replay}[args.what](args)


def _add(args: argparse.Namespace) -> int:
    recipe = load_recipe(args.recipe)
    samples = [
        sample_of(recipe, args.name or name, camera or args.camera, picture, args.expect)
        for name, camera, picture in pictures_of(args.unit, args.recorded)
    ]
    samples = [keep_picture(args.recipe, sample) for sample in samples]
    found = _judge(args.recipe, samples)
    for one in found:
        print(_line(one))
    if not args.anyway and not all(one.as_expected for one in found):
        for sample in samples:
            sample.picture.unlink()
        print("nothing was added: stations with this recipe would halt; teach it, or --anyway")
        return 1
    _write(args, samples)
    print(f"{args.recipe}: {len(samples)} golden samples added")
    return 0


def _write(args: argparse.Namespace, samples: Sequence[Golden]) -> None:
    """Of a station, with an audit row, so that what it observed before goes on to count."""
    if args.store is None or not args.store.is_dir():
        append(args.recipe, samples)
        return
    revise(
        args.recipe,
        args.store,
        "golden",
        args.by or getpass.getuser(),
        lambda document: add_to(document, args.recipe, samples),
        {"units": [sample.unit for sample in samples]},
    )


def _run(args: argparse.Namespace) -> int:
    samples = load_recipe(args.recipe).golden
    if not samples:
        raise Misuse(
            f"{args.recipe} has no golden sample; add one with 'edge-inspector golden add'"
        )
    found = _judge(args.recipe, samples)
    changed = sum(not one.as_expected for one in found)
    if args.json:
        print(json.dumps({"changed": changed, "samples": [_facts(one) for one in found]}))
    else:
        for one in found:
            print(_line(one))
        print(f"{len(found)} golden samples, {changed} judged otherwise")
    return 1 if changed else 0


def _replay(args: argparse.Namespace) -> int:
    settings = load_settings(args.station)
    if not load_recipe(settings.recipe).golden:
        raise Misuse(f"{settings.recipe} has no golden sample; add one with 'golden add'")
    pid = running(settings.store)
    if pid is None:
        raise Misuse(
            f"no daemon that is ready runs on {settings.store}; golden samples are judged when it "
            "starts, or now with 'edge-inspector golden run'"
        )
    os.kill(pid, signal.SIGUSR1)
    print(f"asked process {pid}; its log tells as golden_samples how they are judged")
    return 0


def running(store: Path) -> int | None:
    """Process id of the daemon that has this store, None where none is ready to be asked."""
    if not (store / "lock").is_file():
        return None
    try:
        Lock(store).release()
    except StoreFault:
        pid = int((store / "lock").read_text().strip() or 0)
        return pid if _listens(pid) else None
    return None


def _listens(pid: int) -> bool:
    """Whether the process catches SIGUSR1, which would end a recording or a daemon that starts."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGUSR1 - 1) & 1)


def _judge(recipe: Path, samples: Sequence[Golden]) -> list[Rejudged]:
    with open_inspector(recipe) as inspector:
        return [rejudge(inspector, sample) for sample in samples]


def _line(found: Rejudged) -> str:
    if not found.as_expected:
        return found.sentence
    sample = found.sample
    return f"golden sample {sample.unit}: {said(sample.expect, sample.defect_class)}, as expected"


def _facts(found: Rejudged) -> dict[str, Any]:
    return {
        "unit": found.sample.unit,
        "camera": found.sample.camera,
        "expected": said(found.sample.expect, found.sample.defect_class),
        "got": said(found.inspection.outcome, found.inspection.defect_class),
        "as_expected": found.as_expected,
        "detail": found.inspection.detail,
        "anomaly_score": found.inspection.anomaly_score,
        "threshold": found.inspection.threshold,
    }
