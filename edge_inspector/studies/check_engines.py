"""The checks of what judges: engines against their files and the budget, and golden samples."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import closing

import numpy as np

from edge_inspector import clock
from edge_inspector.backends import precision_of
from edge_inspector.bundle import Engine, open_engine
from edge_inspector.choice import AUTO, Runtimes
from edge_inspector.engines import crop_counts, open_session
from edge_inspector.errors import DocumentError, EdgeInspectorError, EngineRefused
from edge_inspector.golden import rejudge, samples
from edge_inspector.inspector import open_inspector
from edge_inspector.manifest import load_manifest
from edge_inspector.naming import check_kinds
from edge_inspector.protocols import Session
from edge_inspector.recipe import Recipe
from edge_inspector.studies.findings import Finding, Station
from edge_inspector.verdict import UNKNOWN

BUDGET_SHARE = 0.5
"""Inference beyond this part of the budget leaves too little for queues and the commit."""
ROUNDS, WARM_UP = 20, 5


def engines(station: Station) -> Iterator[Finding]:
    """Hash, parity on the challenge pair, and what a unit's crops cost of the latency budget."""
    costs_ms: dict[str, float] = {}
    workers = station.settings.workers
    runtimes = Runtimes(workers.backends, workers.threads, station.settings.store)
    for name, folder in station.recipe.engines.items():
        subject = f"engine {name}"
        try:
            engine = open_engine(folder)
            runner, session = open_session(station.recipe, name, engine, runtimes)
            with closing(session):
                costs_ms[name] = crop_ms(session, engine)
        except EdgeInspectorError as error:
            yield Finding("FAIL", subject, str(error))
            continue
        told = f"{engine.title} {engine.digest[:16]} in {runner}: {costs_ms[name]:.2f} ms per crop"
        yield Finding("OK", subject, told)
        yield from _same_as_calibrated(station, name, engine.digest, runner)
    if costs_ms and costs_ms.keys() == station.recipe.engines.keys():
        yield _budget(station.recipe, costs_ms)


def crop_ms(session: Session, engine: Engine) -> float:
    """Median time of one crop alone, the challenge crop that is good, in ms."""
    crop = engine.good[np.newaxis]
    times = []
    for _ in range(WARM_UP + ROUNDS):
        started = clock.now_ns()
        session.run(crop)
        times.append(clock.now_ns() - started)
    return statistics.median(times[WARM_UP:]) / clock.NS_PER_MS


def _same_as_calibrated(station: Station, name: str, digest: str, runner: str) -> Iterator[Finding]:
    calibration = station.recipe.calibration
    if calibration is None:
        return
    known = calibration.engines.get(name)
    runtime, calibrated = precision_of(runner)[0], precision_of(calibration.backend)[0]
    if known != digest:
        found = "without this engine" if known is None else f"with digest {known[:16]}"
        detail = f"the recipe was calibrated {found}; run 'edge-inspector calibrate' again"
        yield Finding("FAIL", f"engine {name}", detail)
    elif runtime != calibrated and AUTO not in station.settings.workers.backends:
        detail = f"calibrated in {calibrated}, runs in {runtime}; calibrate again"
        yield Finding("WARN", f"engine {name}", detail)


def _budget(recipe: Recipe, costs_ms: dict[str, float]) -> Finding:
    crops = crop_counts(recipe)
    needed = sum(costs_ms[name] * count for (name, _), count in crops.items())
    share = needed / recipe.latency_budget_ms
    told = (
        f"{sum(crops.values())} crops a unit take {needed:.1f} ms of inference, {share:.0%} of the "
        f"budget of {recipe.latency_budget_ms:g} ms"
    )
    if share < BUDGET_SHARE:
        return Finding("OK", "budget", told)
    remedy = "a smaller engine, fewer regions, more threads or a larger budget would help"
    return Finding("FAIL" if share >= 1 else "WARN", "budget", f"{told}; {remedy}")


def classifiers(station: Station) -> Iterator[Finding]:
    """Classifiers in their place, and classes that a line controller could not tell apart."""
    recipe, subject = station.recipe, "classifiers"
    try:
        manifests = {name: load_manifest(folder) for name, folder in recipe.engines.items()}
    except DocumentError:  # said of the engine already
        return
    known = {name: m.classes for name, m in manifests.items() if m.kind == "classifier"}
    try:
        check_kinds(recipe, known.keys())
    except EngineRefused as error:
        yield Finding("FAIL", subject, str(error))
        return
    good = {m.good_class for m in manifests.values()}
    named = {kind for kinds in known.values() for kind in (*kinds, UNKNOWN)} - good
    coded = any(sink.type in ("assured", "modbus") for sink in station.settings.sinks)
    if coded and (lacking := sorted(named - set(recipe.defect_classes))):
        detail = (
            f"{', '.join(lacking)} {'have' if len(lacking) > 1 else 'has'} no number, so line "
            "controllers get 0; list under defect_classes what they should tell apart"
        )
        yield Finding("WARN", subject, detail)
    elif named:
        yield Finding("OK", subject, f"they name {', '.join(sorted(named))}")


def golden(station: Station) -> Iterator[Finding]:
    """Units whose verdict is fixed, judged now as a worker does when it starts."""
    if not station.recipe.golden and not station.recipe.ladder:
        return
    workers = station.settings.workers
    try:
        with open_inspector(
            station.recipe,
            backends=workers.backends,
            threads=workers.threads,
            store=station.settings.store,
        ) as inspector:
            found = [rejudge(judge, sample) for judge, sample in samples(inspector)]
    except EdgeInspectorError as error:
        yield Finding("FAIL", "golden", str(error))
        return
    changed = [one.sentence for one in found if not one.as_expected]
    for sentence in changed:
        yield Finding("FAIL", "golden", f"{sentence}; every unit would be uninspected")
    if found and not changed:
        yield Finding("OK", "golden", f"{len(found)} samples are judged as they are fixed to be")
