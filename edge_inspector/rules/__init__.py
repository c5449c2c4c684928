"""What is measured instead of learned by a network: tools for any product, rules for one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge_inspector.documents import read_toml
from edge_inspector.errors import DocumentError

if TYPE_CHECKING:
    from edge_inspector.rules.bga import RuleScorer
    from edge_inspector.rules.tool_scorer import ToolScorer


def open_rules(path: Path, mm_per_px: Mapping[str, float] | None = None) -> RuleScorer | ToolScorer:
    """
    The scorer of a rules file; raises `DocumentError`.

    With `kind = "tools"` it is measuring tools, which tell lengths in mm for the cameras that
    `mm_per_px` names; without a kind it is the rules of ball grid arrays.
    """
    values, _ = read_toml(path)
    if values.get("kind") == "tools":
        from edge_inspector.rules.tool_scorer import ToolScorer
        from edge_inspector.rules.tools import load_tools

        return ToolScorer(load_tools(path), mm_per_px or {})
    from edge_inspector.rules.bga import RuleScorer
    from edge_inspector.rules.parameters import load_rules

    return RuleScorer(load_rules(path))


def rules_digest(path: Path) -> str:
    """SHA-256 of a rules file; raises `DocumentError`."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DocumentError(str(path), None, f"cannot be read: {error.strerror}") from error
