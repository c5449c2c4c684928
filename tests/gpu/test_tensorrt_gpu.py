"""TensorRT's answers on a GPU: against ONNX Runtime, and against themselves."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edge_inspector import parity
from edge_inspector.backends import open_first
from edge_inspector.backends.tensorrt import TensorRt
from edge_inspector.bundle import open_engine
from tests.gpu.conftest import MOST, Opener

SHIPPED = Path(__file__).parents[2] / "engines"
NEWEST = [
    max((version for version in name.iterdir() if version.is_dir()), key=lambda v: int(v.name))
    for name in sorted(SHIPPED.iterdir())
    if name.is_dir()
]
SOAK_S = 600
COUNTS = (1, 2, 3, MOST, MOST + 1, 256)


def _crops(count: int, seed: int = 3) -> np.ndarray:
    """Smooth blobs and noise, so that scores differ."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :64]
    middles = rng.uniform(8, 56, (count, 2, 1, 1))
    far = (rows - middles[:, 0]) ** 2 + (columns - middles[:, 1]) ** 2
    blobs = 180 * np.exp(-far / rng.uniform(20, 200, (count, 1, 1)))
    crops: np.ndarray = (blobs + rng.uniform(0, 60, (count, 64, 64))).astype(np.uint8)
    return crops[..., None]


def test_256_crops_score_as_in_onnx_runtime(opener: Opener, model: bytes) -> None:
    session = opener()
    _, reference = open_first(["onnxruntime"], model, 1)
    crops = _crops(256)
    found, wanted = session.run(crops), reference.run(crops)
    assert np.ptp(wanted["score"]) > 0.01
    np.testing.assert_allclose(found["score"], wanted["score"], atol=1e-4, rtol=1e-3)
    maps = found["anomaly_map"].astype(int) - wanted["anomaly_map"]
    assert np.abs(maps).max() <= 1


@pytest.mark.parametrize("folder", NEWEST, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_shipped_engines_score_their_challenge_as_in_training(
    backend: type[TensorRt], tmp_path: Path, folder: Path
) -> None:
    engine = open_engine(folder)
    for precision, model in engine.models.items():
        session = backend(tmp_path).open(model, threads=1)
        parity.challenge(session, engine, precision)
        assert np.isfinite(session.run(parity.noisy(engine, 256))["score"]).all()
        session.close()


def test_the_graph_answers_as_the_plain_path_bit_for_bit(opener: Opener) -> None:
    session = opener()
    assert session.facts()["plain"] == {}
    for count in COUNTS:
        crops = _crops(count, seed=count)
        graph, plain = session.run(crops), session.plain(crops)
        for name in graph:
            np.testing.assert_array_equal(graph[name], plain[name])


def test_no_answer_is_of_an_earlier_crop(opener: Opener) -> None:
    session = opener()
    crops = _crops(200)
    alone = [float(session.plain(crop[None])["score"][0]) for crop in crops]
    assert len(set(alone)) == len(alone)
    for _ in range(3):
        for crop, wanted in zip(crops, alone, strict=True):
            assert float(session.run(crop[None])["score"][0]) == wanted


def test_a_small_batch_after_a_large_one_is_its_own(opener: Opener) -> None:
    session = opener()
    crops = _crops(MOST)
    large = session.run(crops)["score"]
    for count in (1, 2, 3):
        np.testing.assert_allclose(session.run(crops[-count:])["score"], large[-count:], rtol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_sessions_at_once_answer_as_one_after_another(opener: Opener, count: int) -> None:
    sessions = [opener() for _ in range(count)]
    batches = [_crops(MOST, seed=number) for number in range(40)]
    wanted = [sessions[0].run(batch)["score"] for batch in batches]
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn, batch in enumerate(batches):
            if not np.array_equal(sessions[number].run(batch)["score"], wanted[turn]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_mapped_memory_answers_as_copies_do(opener: Opener) -> None:
    copied, mapped = opener(mapped=False), opener(mapped=True)
    crops = _crops(17)
    np.testing.assert_array_equal(copied.run(crops)["score"], mapped.run(crops)["score"])


def test_a_kept_plan_is_opened_and_a_damaged_one_built_again(opener: Opener) -> None:
    crops = _crops(5)
    first = opener().run(crops)["score"]
    built = [event for event, _ in opener.told].count("plan_building")
    second = opener().run(crops)["score"]
    assert [event for event, _ in opener.told].count("plan_building") == built == 1
    np.testing.assert_array_equal(first, second)
    largest = max(opener.cache.iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-100])
    third = opener().run(crops)["score"]
    assert [event for event, _ in opener.told].count("plan_building") == 2
    np.testing.assert_allclose(third, first, atol=1e-4, rtol=1e-3)


def test_an_idle_session_keeps_warm_and_answers_as_before(opener: Opener) -> None:
    session = opener(keep_warm_s=0.02)
    crops = _crops(3)
    before = session.run(crops)["score"]
    time.sleep(0.5)
    assert session.facts()["warmed"] >= 5
    np.testing.assert_array_equal(session.run(crops)["score"], before)


def test_the_device_says_how_long_each_step_took(opener: Opener) -> None:
    times = opener().times_ms(1)
    assert len(times) == 3
    assert 0 < sum(times) < 1000


ENDS = """
import sys
from pathlib import Path
import numpy as np
from edge_inspector.backends import tensorrt
session = getattr(tensorrt, sys.argv[1])(Path(sys.argv[2])).open(
    Path(sys.argv[3]).read_bytes(), threads=1)
session.run(np.zeros((1, 64, 64, 1), np.uint8))
{end}
"""


@pytest.mark.parametrize("end", ["session.close()", "", "raise KeyboardInterrupt", "1 / 0"])
def test_a_process_ends_without_an_abort_however_it_ends(
    backend: type[TensorRt], model: bytes, tmp_path: Path, end: str
) -> None:
    (tmp_path / "model.onnx").write_bytes(model)
    command = [sys.executable, "-c", ENDS.format(end=end), backend.__name__]
    ended = subprocess.run(
        [*command, str(tmp_path), str(tmp_path / "model.onnx")],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert "context stack" not in ended.stderr
    assert ended.returncode >= 0 or end == "raise KeyboardInterrupt"


@pytest.mark.slow
@pytest.mark.timeout(SOAK_S + 120)
def test_ten_minutes_leave_memory_as_it_was(opener: Opener, pycuda: object) -> None:
    session = opener(keep_warm_s=0.01)
    batches = [_crops(count, seed=count) for count in COUNTS[:5]]
    wanted = [session.run(batch)["score"] for batch in batches]
    before: tuple[int, int] | None = None
    until = time.monotonic() + SOAK_S
    while time.monotonic() < until:
        for batch, score in zip(batches, wanted, strict=True):
            np.testing.assert_array_equal(session.run(batch)["score"], score)
        before = before or _memory(session)
    after = _memory(session)
    assert before is not None
    assert after[0] - before[0] < 32 * 1024
    assert before[1] - after[1] < 32 << 20


def _memory(session: object) -> tuple[int, int]:
    """Most KiB that this process ever held, and bytes free on the device."""
    import pycuda.driver

    free = session._owner.do(lambda _: pycuda.driver.mem_get_info()[0])  # type: ignore[attr-defined]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, int(free)
