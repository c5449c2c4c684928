"""
TensorRT plans: what its builder makes of an ONNX graph for one device, kept between starts.

The ONNX is the source of truth: a plan that does not fit, or cannot be trusted, is built again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from edge_inspector import clock
from edge_inspector.backends.builder import BuildOptions, Built, built
from edge_inspector.backends.driver import Device
from edge_inspector.backends.plan_cache import NotKept, PlanCache
from edge_inspector.backends.trt_words import Tell, check_version
from edge_inspector.errors import EngineRefused

SAID_AS = {
    "fp8": r"\b(fp8|float8\w*)",
    "int8": r"\bint8\b",
    "float16": r"\b(half|fp16|float16)\b",
    "bfloat16": r"\b(bf16|bfloat16)\b",
    "float32": r"\b(float|fp32|float32)\b",
}
"""How an engine's inspector names types, which differs between releases."""
OPTIONS = tuple(field.name for field in fields(BuildOptions))
FORM = 1
"""Raised when the same options make another plan in a later release of this package."""
TIMING = ("module", "version", "gpu", "compute_capability", "multiprocessors")
"""What measured times of kernels depend on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A serialized engine, for `Runtime.deserialize_cuda_engine`."""

    raw: bytes
    module: str
    """tensorrt or tensorrt_rtx."""
    shape: tuple[int, int, int]
    """Height, width, channels of the crops."""
    max_batch: int
    precision: str
    """Lowest that the graph asks for: float32, float16, bfloat16, int8, fp8."""
    fresh: bool
    """Built now, not read from the cache."""
    kept: Path | None
    """Its file in the cache."""


def obtain(
    trt: ModuleType,
    model: bytes,
    cache: Path | None,
    device: Device,
    options: BuildOptions | None,
    tell: Tell,
) -> Plan:
    """
    The plan that is kept of this model for this box, else a new one; why, is told.

    Without `options` the one built last, with whatever options, else a new one with the usual ones.
    Raises `EngineRefused` with TensorRT's words. A folder that cannot be written costs a build at
    each start and no more.
    """
    check_version(trt)
    identity = identity_of(trt, model, device, options or BuildOptions())
    if cache is None:
        tell("plan_building", reason="no folder is given to keep plans in")
        return _plan(_built(trt, model, identity, tell), identity)
    store = PlanCache(cache)
    try:
        if options is None:
            identity = dict(store.newest(identity, OPTIONS))
        return _kept(store, identity)
    except (NotKept, OSError):
        pass  # looked at again under the lock: another process may be about to write it
    try:
        with store.locked(tell):
            return _kept_or_built(trt, model, store, identity, tell)
    except OSError as error:
        tell("plan_building", reason=f"plans cannot be kept: {error}")
        return _plan(_built(trt, model, identity, tell), identity)


def forget(plan: Plan, why: str, tell: Tell) -> None:
    """Delete a kept plan that cannot be used after all: it did not load, or failed its parity."""
    if plan.kept is not None:
        tell("plan_forgotten", plan=plan.kept.name, reason=why)
        PlanCache(plan.kept.parent).remove(plan.kept)


def passed(plan: Plan, **facts: Any) -> None:
    """Note in a kept plan's sidecar what its parity check found."""
    if plan.kept is not None:
        PlanCache(plan.kept.parent).add(plan.kept, {"parity": facts})


def check_precision(trt: ModuleType, engine: Any, precision: str) -> bool:
    """
    Whether the engine's inspector confirms the precision; False where it names no types.

    Raises `EngineRefused` where it names others alone: options that are ignored give float32.
    """
    inspector = engine.create_engine_inspector()
    text = inspector and inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        types = sorted(set(_types(json.loads(text or "{}"))))
    except ValueError:
        return False
    if types and not any(re.search(SAID_AS[precision], name, re.IGNORECASE) for name in types):
        raise EngineRefused(
            f"the plan computes in {', '.join(types)}, the graph asks for {precision}; "
            f"use another release of {trt.__name__}"
        )
    return bool(types)


def identity_of(
    trt: ModuleType, model: bytes, device: Device, options: BuildOptions
) -> dict[str, Any]:
    """All that a plan depends on, by names: numbers of enums move between releases."""
    return {
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "module": trt.__name__,
        "version": trt.__version__,
        "gpu": device.name,
        "compute_capability": ".".join(map(str, device.compute_capability)),
        "multiprocessors": device.multiprocessors,
        "cuda": ".".join(map(str, device.cuda)),
        "driver": device.driver,
        "form": FORM,
        **asdict(options),
    }


def _kept(store: PlanCache, identity: dict[str, Any]) -> Plan:
    raw, facts, path = store.read(identity)
    height, width, channels = facts["shape"]
    shape = (height, width, channels)
    module, most = identity["module"], identity["max_batch"]
    return Plan(raw, module, shape, most, facts["precision"], fresh=False, kept=path)


def _kept_or_built(
    trt: ModuleType, model: bytes, store: PlanCache, identity: dict[str, Any], tell: Tell
) -> Plan:
    """Under the lock; an `OSError` of a write costs no build."""
    try:
        return _kept(store, identity)
    except NotKept as reason:
        tell("plan_building", reason=str(reason))
    about = {name: identity[name] for name in TIMING}
    found = _built(trt, model, identity, tell, store.read_timing(about))
    facts = {
        "shape": found.shape,
        "precision": found.precision,
        "build_s": found.seconds,
        "built_utc": clock.utc_text(clock.utc_ns()),
    }
    path = None
    try:
        if found.timing:
            store.write_timing(about, found.timing)
        path = store.write(identity, found.raw, facts)
    except OSError as error:
        tell("plan_not_kept", reason=f"{store.folder}: {error.strerror or error}")
    return _plan(found, identity, path)


def _built(
    trt: ModuleType, model: bytes, identity: dict[str, Any], tell: Tell, timing: bytes = b""
) -> Built:
    options = BuildOptions(**{name: identity[name] for name in OPTIONS})
    found = built(trt, model, options, tell, timing)
    tell("plan_built", seconds=found.seconds, bytes=len(found.raw), precision=found.precision)
    return found


def _plan(found: Built, identity: dict[str, Any], kept: Path | None = None) -> Plan:
    module, most = identity["module"], identity["max_batch"]
    return Plan(found.raw, module, found.shape, most, found.precision, fresh=True, kept=kept)


def _types(found: Any) -> Iterator[str]:
    """What an inspector's JSON states under keys that name types, at any depth."""
    if isinstance(found, list):
        for part in found:
            yield from _types(part)
    if isinstance(found, dict):
        for key, part in found.items():
            if isinstance(part, str) and "datatype" in key.lower():
                yield part
            yield from _types(part)
