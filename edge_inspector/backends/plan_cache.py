"""
A folder of plans: KEY.plan with KEY.json beside it, which says of what, for what, and by whom.

Nothing is read that this box did not write: sidecars and timing caches carry an HMAC whose key
never leaves the folder. A damaged or foreign file is a reason to build again, never an error.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edge_inspector.backends.trt_words import Tell
from edge_inspector.errors import EdgeInspectorError

KEY_FILE, LOCK_FILE = "key", "lock"
KEY_BYTES = 32
OUTLIVED = frozenset({"version", "driver", "cuda"})
"""A plan that differs in these alone from the one just written is of no use any more."""
Facts = Mapping[str, Any]


class NotKept(EdgeInspectorError):
    """There is no such plan, or none that can be trusted; the text is the reason to build."""


class PlanCache:
    """The folder; made when first needed. Every method may raise `OSError`, as files do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, identity: Facts) -> tuple[bytes, Facts, Path]:
        """The plan, its facts and its file; raises `NotKept`."""
        path = self.folder / f"{key_of(identity)}.plan"
        if not path.exists():
            raise NotKept(self._why_absent(identity))
        facts = self._sidecar(path)
        if facts["identity"] != dict(identity):
            raise NotKept(f"{path.name} is of another engine or box")
        raw = path.read_bytes()
        if len(raw) != facts["bytes"]:
            raise NotKept(f"{path.name} has {len(raw)} bytes, its sidecar says {facts['bytes']}")
        if hashlib.sha256(raw).hexdigest() != facts["sha256"]:
            raise NotKept(f"{path.name} is not what was written: its sha256 differs")
        return raw, facts, path

    def write(self, identity: Facts, raw: bytes, facts: Facts) -> Path:
        """Keep a plan, whole or not at all, under the lock; those that it replaces go."""
        path = self.folder / f"{key_of(identity)}.plan"
        whole = {
            "identity": dict(identity),
            "bytes": len(raw),
            "sha256": hashlib.sha256(raw).hexdigest(),
            **facts,
        }
        for left in self.folder.glob(
            "*.plan.*.new"
        ):  # by a builder that was killed: we hold the lock
            left.unlink()
        self._replace(path, raw)
        self._seal(path.with_suffix(".json"), whole)
        for other, stated in self._alike(identity):
            if other != path and OUTLIVED.issuperset(differing(identity, stated["identity"])):
                self.remove(other)
        return path

    def newest(self, identity: Facts, free: Collection[str]) -> Facts:
        """The identity of the plan built last that differs in `free` alone, else the given one."""
        fitting = [
            facts
            for _, facts in self._alike(identity)
            if set(free).issuperset(differing(identity, facts["identity"]))
        ]
        last = max(fitting, key=lambda facts: str(facts["built_utc"]), default=None)
        return last["identity"] if last else identity

    def add(self, path: Path, facts: Facts) -> None:
        """Write further facts into a plan's sidecar; raises `NotKept`."""
        self._seal(path.with_suffix(".json"), {**self._sidecar(path), **facts})

    def remove(self, path: Path) -> None:
        """Delete a plan and its sidecar."""
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)

    def read_timing(self, identity: Facts) -> bytes:
        """What a builder learned on this box about how fast kernels are; empty when nothing."""
        with suppress(FileNotFoundError):
            whole = self._timing(identity).read_bytes()
            if hmac.compare_digest(self._mac(whole[KEY_BYTES:]), whole[:KEY_BYTES]):
                return whole[KEY_BYTES:]
        return b""

    def write_timing(self, identity: Facts, raw: bytes) -> None:
        """Keep it for the next build."""
        self._replace(self._timing(identity), self._mac(raw) + raw)

    @contextmanager
    def locked(self, tell: Tell) -> Iterator[None]:
        """One builder at a time: two would time their kernels against each other."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK_FILE).open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell("plan_waits", folder=str(self.folder), reason="another process builds")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _sidecar(self, path: Path) -> dict[str, Any]:
        side = path.with_suffix(".json")
        try:
            found = json.loads(side.read_bytes())
            mac = bytes.fromhex(found.pop("hmac"))
        except FileNotFoundError:
            raise NotKept(f"{path.name} has no sidecar") from None
        except (ValueError, KeyError, AttributeError, TypeError):
            raise NotKept(f"{side.name} is no sidecar") from None
        if not hmac.compare_digest(self._mac(_canonical(found)), mac):
            raise NotKept(f"{side.name} was not written by this box, or was changed since")
        facts: dict[str, Any] = found
        return facts

    def _why_absent(self, identity: Facts) -> str:
        """What changed since the plan that is kept of the same model, if one is."""
        changes = [
            [f"{n} was {stated.get(n)}, is {identity[n]}" for n in differing(identity, stated)]
            for stated in (facts["identity"] for _, facts in self._alike(identity))
        ]
        fewest = min(changes, key=lambda found: len(found), default=None)
        if fewest is None:
            return "no plan of this model is kept"
        return "; ".join(fewest) or "the plan is gone, its sidecar is not"

    def _alike(self, identity: Facts) -> list[tuple[Path, Facts]]:
        """Plans of the same model, and what their sidecars say."""
        found: list[tuple[Path, Facts]] = []
        for side in sorted(self.folder.glob("*.json")):
            with suppress(NotKept):
                facts = self._sidecar(side.with_suffix(".plan"))
                if facts["identity"]["model_sha256"] == identity["model_sha256"]:
                    found.append((side.with_suffix(".plan"), facts))
        return found

    def _timing(self, identity: Facts) -> Path:
        return self.folder / f"{key_of(identity)[:16]}.timing"

    def _seal(self, side: Path, facts: Facts) -> None:
        mac = self._mac(_canonical(facts)).hex()
        self._replace(side, json.dumps({**facts, "hmac": mac}, indent=1).encode() + b"\n")

    def _mac(self, raw: bytes) -> bytes:
        return hmac.digest(self._key(), raw, "sha256")

    def _key(self) -> bytes:
        """The folder's secret; one that others could have read is thrown away, and all with it."""
        path = self.folder / KEY_FILE
        with suppress(FileNotFoundError):
            status = path.lstat()
            ours = status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o600
            if ours and stat.S_ISREG(status.st_mode) and status.st_size == KEY_BYTES:
                return path.read_bytes()
        key = secrets.token_bytes(KEY_BYTES)
        self._replace(path, key)
        return key

    def _replace(self, path: Path, raw: bytes) -> None:
        """Write beside, sync, rename: a crash leaves the old file or the new one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}.new")
        try:
            # Readable by us alone: a plan holds the model.
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def key_of(identity: Facts) -> str:
    """The name of what has this identity."""
    return hashlib.sha256(_canonical(identity)).hexdigest()


def differing(identity: Facts, other: Facts) -> list[str]:
    """What of an identity another has otherwise."""
    return [name for name, value in identity.items() if other.get(name) != value]


def _canonical(facts: Facts) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
