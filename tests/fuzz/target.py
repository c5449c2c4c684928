"""One target of the fuzzer: `python -m tests.fuzz.target NAME [options of libFuzzer] CORPUS`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["edge_inspector.wire", "tests.fuzz.mutate"]):
    from tests.fuzz import mutate

MAX_PARTS = 6


def parts_of(data: bytes) -> list[bytes]:
    """The framing of the golden files, with whatever is left where a length is wrong."""
    parts: list[bytes] = []
    while data and len(parts) < MAX_PARTS:
        size = int.from_bytes(data[:4], "little")
        parts.append(data[4 : 4 + size])
        data = data[4 + size :]
    return parts


def everything_assured(parts: list[bytes]) -> None:
    """Header, messages and verdicts, as they came and with a header that fits."""
    for message in (parts, mutate.made_right(parts)):
        for name in ("header", "assured", "verdict"):
            mutate.timed_ns(mutate.DECODERS[name], message)


TARGETS = {
    "assured": everything_assured,
    "plain": lambda parts: mutate.timed_ns(mutate.read_plain, parts),
    "telemetry": lambda parts: mutate.timed_ns(mutate.read_telemetry, parts),
    "control": mutate.control,
}


def main() -> None:
    """Run until the time is up, or until something is raised."""
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, lambda data: target(parts_of(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
