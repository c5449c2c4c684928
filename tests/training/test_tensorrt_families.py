"""Every exported family as a TensorRT plan, built for real without a GPU; none is run here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from edge_inspector.backends.builder import BuildOptions, Built, built
from edge_inspector.training.half import in_half
from tests.families import FAMILIES, SHAPE, crops, exported

trt = pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt_rtx is absent; tests/setup_trt.sh installs it"
)
# Several seconds of exporting on a busy box, for those that no test exported before.
pytestmark = pytest.mark.timeout(300)


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.batches = iter([{"crops": crops().train[:8].numpy()}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def in_int8(model: bytes, folder: Path) -> bytes:
    """Convolutions in symmetric int8, the only kind that TensorRT computes in."""
    onnxruntime.set_default_logger_severity(4)
    given, made = folder / "given.onnx", folder / "made.onnx"
    given.write_bytes(model)
    quantize_static(
        given,
        made,
        Calibration(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )
    return made.read_bytes()


def plan(model: bytes) -> Built:
    return built(trt, model, BuildOptions(), lambda event, **facts: None)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_builds_in_every_precision(family: str, tmp_path: Path) -> None:
    model = exported(family)
    plans = [plan(m) for m in (model, in_half(model), in_int8(model, tmp_path))]
    assert [made.precision for made in plans] == ["float32", "float16", "int8"]
    assert {made.shape for made in plans} == {(SHAPE.height, SHAPE.width, SHAPE.channels)}


def test_a_plan_of_half_the_bits_is_smaller() -> None:
    model = exported("efficientnet-lite0")
    assert len(plan(in_half(model)).raw) < 0.75 * len(plan(model).raw)
