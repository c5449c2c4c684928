"""
`manifest.toml`: the model, in the engine's folder. Written once by training, never changed.

Statistics of scores are information; the threshold is the recipe's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edge_inspector.documents import Document, Name, load

NameStr = Annotated[str, Field(pattern=Name)]
GOOD = ("normal", "good")
"""Names that a class of units without a defect may have."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class File(Document):
    """A file of the engine's folder, as it must be found."""

    sha256: Sha256
    bytes: int = Field(ge=0)


class Input(Document):
    """Crops the graph takes: uint8 (n, height, width, channels), channels 1 grey or 3 BGR."""

    name: str = "crops"
    height: int = Field(ge=8, le=4096)
    width: int = Field(ge=8, le=4096)
    channels: Literal[1, 3] = 1
    square: bool = False
    """Cut to the centre square before resizing (data whose aspect ratio must not tell)."""


class Challenge(Document):
    """A known good and a known bad crop (PNG files of the folder) with their raw scores in torch."""

    good: str
    bad: str
    good_score: float
    bad_score: float
    tolerance: float = Field(gt=0)
    """Largest difference of a raw score between runtimes that counts as agreement."""


class Statistics(Document):
    """Raw scores of held-out good crops."""

    count: int = Field(ge=0)
    median: float
    spread: float = Field(gt=0)
    p99: float
    maximum: float


class Tail(Document):
    """Evidence of known crops: what is usual, and over what its upper tail falls e-fold."""

    usual: float
    scale: float = Field(gt=0)


class Strange(Document):
    """At what strangeness crops that look alike are of no class; set on known validation crops."""

    limit: float = Field(gt=0)
    """Summed surprise at or above which a crop is `unknown`."""
    doubt: Tail
    novelty: Tail
    anomaly: Tail | None = None
    """None where no anomaly engine takes part."""
    refused: float = Field(default=0.0, ge=0, le=1)
    crops: int = Field(default=0, ge=0)
    """Validation crops that set the limit; it calls the share `refused` of them unknown."""


class Quantised(Document):
    """The same engine in eight bits, and the gate it passed on held-out crops."""

    model: str = "model.int8.onnx"
    quantiser: str
    """What made it, with its version."""
    calibration_crops: int = Field(ge=1)
    """Training crops that set its ranges."""
    validation_crops: int = Field(ge=1)
    """Held-out crops that both recalls were counted on, good and defective."""
    defects: Literal["known", "made"]
    """Defects of the data, or faults made of its held-out good crops where it has none."""
    overkill: float = Field(default=0.005, gt=0, lt=1)
    recall_float32: float = Field(ge=0, le=1)
    """Of the known defects, at a threshold that rejects at most the share `overkill` of the good."""
    recall_int8: float = Field(ge=0, le=1)
    good_score: float
    bad_score: float
    """Raw scores of the challenge crops, computed when it was made."""
    tolerance: float = Field(gt=0)
    """Largest difference of a raw score between runtimes in eight bits that counts as agreement."""


class Unknown(Document):
    """Limits of a classifier's crops: those that look good, and those that look defective."""

    good: Strange | None = None
    defects: Strange | None = None


class Manifest(Document):
    """One engine version."""

    name: NameStr
    version: int = Field(ge=1)
    kind: Literal["anomaly", "classifier"]
    model: str = "model.onnx"
    architecture: str
    score: str
    precision: Literal["float32", "float16", "int8"] = "float32"
    opset: int = Field(ge=13)
    input: Input
    outputs: tuple[str, ...]
    classes: tuple[str, ...] = ()
    challenge: Challenge
    statistics: Statistics
    unknown: Unknown | None = None
    """Of a classifier."""
    int8: Quantised | None = None
    """The same engine in eight bits, where it has passed its gate."""
    training_data_sha256: Sha256
    seed: int
    created_utc: str
    files: dict[str, File]
    """Every file of the folder but this one."""

    @property
    def good_class(self) -> str | None:
        """The name of a classifier's class without a defect."""
        return next((name for name in self.classes if name in GOOD), None)


def load_manifest(folder: Path) -> Manifest:
    """Read and check `<folder>/manifest.toml`."""
    return load(Manifest, folder / "manifest.toml")
