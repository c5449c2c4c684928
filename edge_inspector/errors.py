"""
The exception tree, named by what the caller can do.

    EdgeInspectorError
    ├── Misuse               mend what was typed or given          (exit 2)
    │   ├── DocumentError    mend a TOML document: file, line, key
    │   └── DataError        mend a data folder, CSV or image
    ├── Breakage             mend the box                          (exit 3)
    │   ├── StoreFault       the verdict log cannot be written or read
    │   └── BackendMissing   an inference runtime is not installed or does not start
    ├── EngineRefused        keep the engine that serves now
    │   ├── EngineCorrupt    hash, size or shape is not what the manifest says
    │   └── ParityError      two runtimes disagree on the same crops
    ├── Uninspectable        answer this unit with the reason it carries
    └── WireError            refuse this message

A message gives the value, the limit and the remedy.
"""

from __future__ import annotations


class EdgeInspectorError(Exception):
    """Anything this package raises on purpose."""


class Misuse(EdgeInspectorError):
    """What the user typed or gave is wrong; the message says how to mend it."""


class DocumentError(Misuse):
    """A settings, recipe or manifest file is wrong at a named place."""

    def __init__(self, path: str, line: int | None, problem: str) -> None:
        self.path = path
        self.line = line
        self.problem = problem
        super().__init__(f"{path}:{line}: {problem}" if line else f"{path}: {problem}")


class DataError(Misuse):
    """A data folder, CSV or image cannot be used."""


class Breakage(EdgeInspectorError):
    """The box lacks something: disk, driver, package, port."""


class StoreFault(Breakage):
    """The verdict log cannot be written or read."""


class BackendMissing(Breakage):
    """An inference runtime is not installed or does not start."""


class EngineRefused(EdgeInspectorError):
    """An engine must not be loaded; whatever serves now goes on serving."""


class EngineCorrupt(EngineRefused):
    """A file of the engine is not the one its manifest lists."""


class ParityError(EngineRefused):
    """Two runtimes disagree on the same crops."""


class Uninspectable(EdgeInspectorError):
    """This unit cannot be judged: `reason` is the value of a `records.Reason`."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class WireError(EdgeInspectorError):
    """A message does not follow the protocol."""
