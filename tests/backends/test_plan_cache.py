"""Faults of the folder of plans; what is in a plan is nothing to it, so that bytes stand in."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from edge_inspector.backends.plan_cache import NotKept, PlanCache, key_of

RAW = bytes(range(256)) * 64
BOX = {
    "model_sha256": "a" * 64,
    "module": "tensorrt",
    "version": "10.3.0",
    "gpu": "Orin",
    "compute_capability": "8.7",
    "driver": "540.4",
    "cuda": "12.6",
    "max_batch": 16,
}


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "plans")


@pytest.fixture
def kept(cache: PlanCache) -> Path:
    return cache.write(BOX, RAW, {"shape": [8, 8, 1]})


def why_not(cache: PlanCache, **changed: Any) -> str:
    with pytest.raises(NotKept) as reason:
        cache.read({**BOX, **changed})
    return str(reason.value)


def test_what_is_written_is_read_with_its_facts(cache: PlanCache, kept: Path) -> None:
    raw, facts, path = cache.read(BOX)
    assert (raw, path) == (RAW, kept)
    assert facts["shape"] == [8, 8, 1]
    assert facts["identity"] == BOX


def test_the_sidecar_is_for_people_too(kept: Path) -> None:
    told = json.loads(kept.with_suffix(".json").read_text())
    assert told["identity"]["gpu"] == "Orin"
    assert told["bytes"] == len(RAW)


def test_an_empty_folder_says_so(cache: PlanCache) -> None:
    assert why_not(cache) == "no plan of this model is kept"


def test_another_model_is_no_reason_to_name_changes(cache: PlanCache, kept: Path) -> None:
    assert why_not(cache, model_sha256="b" * 64) == "no plan of this model is kept"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("version", "11.4.1", "version was 10.3.0, is 11.4.1"),
        ("gpu", "L4", "gpu was Orin, is L4"),
        ("driver", "580.1", "driver was 540.4, is 580.1"),
        ("max_batch", 32, "max_batch was 16, is 32"),
    ],
)
def test_a_change_of_the_box_is_named(cache: PlanCache, kept: Path, name, value, words) -> None:
    assert why_not(cache, **{name: value}) == words


def test_the_nearest_of_several_plans_is_compared_with(cache: PlanCache, kept: Path) -> None:
    cache.write({**BOX, "gpu": "L4", "compute_capability": "8.9"}, RAW, {})
    found = why_not(cache, gpu="L4", compute_capability="8.9", max_batch=1)
    assert found == "max_batch was 16, is 1"


def test_a_truncated_plan_is_told(cache: PlanCache, kept: Path) -> None:
    os.truncate(kept, 1000)
    assert "has 1000 bytes, its sidecar says 16384" in why_not(cache)


def test_a_changed_byte_is_told(cache: PlanCache, kept: Path) -> None:
    raw = bytearray(RAW)
    raw[5000] ^= 1
    kept.write_bytes(raw)
    assert "is not what was written: its sha256 differs" in why_not(cache)


def test_a_plan_that_is_gone_is_told(cache: PlanCache, kept: Path) -> None:
    kept.unlink()
    assert why_not(cache) == "the plan is gone, its sidecar is not"


def test_a_plan_without_its_sidecar_is_told(cache: PlanCache, kept: Path) -> None:
    kept.with_suffix(".json").unlink()
    assert "has no sidecar" in why_not(cache)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"hmac": 3}', '{"hmac": "zz"}', "\x00\xff"])
def test_a_sidecar_that_is_none_is_told(cache: PlanCache, kept: Path, text: str) -> None:
    kept.with_suffix(".json").write_text(text, encoding="latin-1")
    assert "is no sidecar" in why_not(cache)


def test_a_forged_pair_is_refused(cache: PlanCache, kept: Path, tmp_path: Path) -> None:
    forged = PlanCache(tmp_path / "elsewhere").write(BOX, b"evil", {"shape": [8, 8, 1]})
    for suffix in (".plan", ".json"):
        kept.with_suffix(suffix).write_bytes(forged.with_suffix(suffix).read_bytes())
    assert "was not written by this box, or was changed since" in why_not(cache)


def test_a_plan_of_another_box_under_this_ones_name_is_refused(
    cache: PlanCache, kept: Path
) -> None:
    other = kept.with_name(f"{key_of({**BOX, 'gpu': 'L4'})}.plan")
    for suffix in (".plan", ".json"):
        kept.with_suffix(suffix).rename(other.with_suffix(suffix))
    assert "is of another engine or box" in why_not(cache, gpu="L4")


def test_a_key_that_others_could_read_is_thrown_away(cache: PlanCache, kept: Path) -> None:
    key = cache.folder / "key"
    before = key.read_bytes()
    key.chmod(0o640)
    assert "was not written by this box" in why_not(cache)
    assert key.read_bytes() != before
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_everything_is_for_this_user_alone(cache: PlanCache, kept: Path) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in cache.folder.iterdir()}
    assert modes == {0o600}


def test_a_plan_that_no_driver_loads_any_more_goes(cache: PlanCache, kept: Path) -> None:
    newer = cache.write({**BOX, "driver": "580.1", "cuda": "13.0", "version": "10.16.1"}, RAW, {})
    assert list(cache.folder.glob("*.plan")) == [newer]
    assert not kept.with_suffix(".json").exists()


def test_a_plan_for_another_gpu_or_batch_stays(cache: PlanCache, kept: Path) -> None:
    cache.write({**BOX, "gpu": "L4"}, RAW, {})
    cache.write({**BOX, "max_batch": 1}, RAW, {})
    assert cache.read(BOX)[0] == RAW


def test_facts_are_added_under_the_seal(cache: PlanCache, kept: Path) -> None:
    cache.add(kept, {"parity": {"score": 1e-4}})
    assert cache.read(BOX)[1]["parity"] == {"score": 1e-4}


def test_a_full_disk_leaves_what_was_there(cache: PlanCache, kept: Path, tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        number = pool.apply(_write_in_little_room, (cache.folder,))
    assert number == 27  # EFBIG, the limit of a file's size: as little room as a full disk
    assert cache.read(BOX)[0] == RAW
    assert not list(cache.folder.glob("*.new"))


def _write_in_little_room(folder: Path) -> int | None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        PlanCache(folder).write(BOX, b"newer" * 1000, {})
    except OSError as error:
        return error.errno
    return None


def test_what_a_killed_builder_left_is_cleared_away(cache: PlanCache, kept: Path) -> None:
    draft = cache.folder / "abc.plan.77.new"
    draft.write_bytes(b"half")
    cache.write({**BOX, "gpu": "L4"}, RAW, {})
    assert not draft.exists()


def test_times_of_kernels_are_kept_and_a_foreign_file_is_none(cache: PlanCache) -> None:
    about = {"gpu": "Orin"}
    assert cache.read_timing(about) == b""
    cache.write_timing(about, b"learned")
    assert cache.read_timing(about) == b"learned"
    (file,) = cache.folder.glob("*.timing")
    file.write_bytes(file.read_bytes() + b"x")
    assert cache.read_timing(about) == b""


def test_a_second_builder_waits_and_says_so(cache: PlanCache) -> None:
    told: list[str] = []
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(cache.folder, held, done))
    other.start()
    try:
        assert held.wait(20)

        def tell(event: str, **facts: Any) -> None:
            told.append(event)
            done.set()

        with cache.locked(tell):
            assert told == ["plan_waits"]
    finally:
        done.set()
        other.join(20)
    assert other.exitcode == 0


def _hold(folder: Path, held: Any, done: Any) -> None:
    with PlanCache(folder).locked(lambda event, **facts: None):
        held.set()
        done.wait(20)
