from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from edge_inspector.backends.owner import Owner
from edge_inspector.errors import Breakage, EngineRefused

NEVER_S = 3600.0


def _lent(happened: list[str]) -> Callable[[], AbstractContextManager[list[str]]]:
    @contextmanager
    def lent() -> Iterator[list[str]]:
        happened.append(f"open {threading.get_ident()}")
        try:
            yield happened
        finally:
            happened.append(f"close {threading.get_ident()}")

    return lent


def _owner(happened: list[str], period_s: float = NEVER_S) -> Owner[list[str]]:
    return Owner(_lent(happened), lambda owned: owned.append("idle"), period_s)


def test_it_opens_works_and_closes_on_one_thread_of_its_own() -> None:
    happened: list[str] = []
    owner = _owner(happened)
    ident = owner.do(lambda owned: threading.get_ident())
    owner.close()
    owner.close()
    assert ident != threading.get_ident()
    assert happened == [f"open {ident}", f"close {ident}"]


def test_jobs_of_many_callers_run_one_after_another() -> None:
    owner = _owner([])
    inside: list[int] = []
    most: list[int] = []

    def job(_: object) -> None:
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    callers = [
        threading.Thread(target=lambda: [owner.do(job) for _ in range(50)]) for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    owner.close()
    assert len(most) == 200
    assert max(most) == 1


def test_what_a_job_raises_reaches_its_caller_and_the_next_job_runs() -> None:
    owner = _owner([])

    def refuse(_: object) -> None:
        raise EngineRefused("no")

    with pytest.raises(EngineRefused, match="no"):
        owner.do(refuse)
    assert owner.do(lambda _: 7) == 7
    owner.close()


def test_what_opening_raises_reaches_whoever_asked_for_it() -> None:
    @contextmanager
    def refused() -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            raise EngineRefused("the GPU's memory is full")
        yield

    with pytest.raises(EngineRefused, match="memory is full"):
        Owner(refused, lambda _: None, NEVER_S)
    assert not [thread for thread in threading.enumerate() if thread.name == "device-owner"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_nobody_foresaw_closes_the_device_and_leaves_no_caller_waiting() -> None:
    happened: list[str] = []
    owner = _owner(happened)
    with pytest.raises(Breakage, match="has ended; start the worker again"):
        owner.do(lambda _: 1 // 0)
    assert happened[-1].startswith("close")
    with pytest.raises(Breakage, match="has ended"):
        owner.do(lambda _: 1)
    owner.close()


FORGETS_TO_CLOSE = """
from contextlib import contextmanager
from edge_inspector.backends.owner import Owner

@contextmanager
def lent():
    try:
        yield
    finally:
        print("closed", flush=True)

owner = Owner(lent, lambda _: None, 0.01)
{end}
"""


@pytest.mark.parametrize("end", ["", "raise KeyboardInterrupt", "raise SystemExit(3)", "1 / 0"])
def test_a_process_that_ends_without_closing_lets_the_device_go(end: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FORGETS_TO_CLOSE.format(end=end)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.stdout == "closed\n"
