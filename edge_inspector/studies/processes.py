"""Memory and processor time of a running station, by process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def members(core: int) -> Iterator[tuple[str, int]]:
    """Name of the module and process id: core, then each of its children."""
    yield "core", core
    for task in Path(f"/proc/{core}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            named = (w.decode().rpartition(".")[2] for w in words if b"edge_inspector." in w)
            yield next(named, child), int(child)


def memory_mib(core: int) -> dict[str, float]:
    """Resident memory, MiB, by name; of several workers the one that has most."""
    found: dict[str, float] = {}
    for name, pid in members(core):
        kib = _line(Path(f"/proc/{pid}/status"), "VmRSS:")
        found[name] = max(round(kib / 1024, 1), found.get(name, 0.0))
    return found


def proportional_mib(core: int) -> float:
    """Memory of all of them, MiB, where a page that several share counts once in all."""
    pids = [pid for _, pid in members(core)]
    return round(sum(_line(Path(f"/proc/{p}/smaps_rollup"), "Pss:") for p in pids) / 1024, 1)


def cpu_ms(core: int) -> dict[str, float]:
    """Processor time used so far, ms, by name; of several workers the sum."""
    found: dict[str, float] = {}
    for name, pid in members(core):
        words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks = int(words[11]) + int(words[12])
        found[name] = found.get(name, 0.0) + ticks * 1000 / os.sysconf("SC_CLK_TCK")
    return found


def _line(path: Path, name: str) -> int:
    """The number of one line of a file of /proc, 0 where it is absent."""
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0
