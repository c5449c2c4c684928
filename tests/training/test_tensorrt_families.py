"""Every exported family as a TensorRT plan, built for real without a GPU; none is run here."""

from __future__ import annotations

import pytest

from edge_inspector.backends.builder import BuildOptions, Built, built
from edge_inspector.training.eight_bits import eight_bits
from edge_inspector.training.half import in_half
from tests.families import FAMILIES, SHAPE, crops, exported

trt = pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt_rtx is absent; tests/setup_trt.sh installs it"
)
# Several seconds of exporting on a busy box, for those that no test exported before.
pytestmark = pytest.mark.timeout(300)


def plan(model: bytes) -> Built:
    return built(trt, model, BuildOptions(), lambda event, **facts: None)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_builds_in_every_precision(family: str) -> None:
    model = exported(family)
    eight = eight_bits(model, crops().train[:4].numpy())
    plans = [plan(graph) for graph in (model, in_half(model), eight)]
    assert [made.precision for made in plans] == ["float32", "float16", "int8"]
    assert {made.shape for made in plans} == {(SHAPE.height, SHAPE.width, SHAPE.channels)}


def test_a_plan_of_half_the_bits_is_smaller() -> None:
    model = exported("efficientnet-lite0")
    assert len(plan(in_half(model)).raw) < 0.75 * len(plan(model).raw)
