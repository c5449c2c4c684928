"""A code on the product names the unit; one that cannot be read lets nothing through."""

import sys

import cv2
import numpy as np
import pytest
import tomlkit

from edge_inspector.codes import MAX_SERIAL, open_codes, read_codes
from edge_inspector.docket import units
from edge_inspector.errors import BackendMissing, DocumentError
from edge_inspector.inspector import open_inspector
from edge_inspector.pixels import pose_matrix
from edge_inspector.recipe import load_recipe
from edge_inspector.records import Frame, FrameHead, FrameKey, Inspection, Outcome, Pose, Reason
from edge_inspector.studies.calibrate_recipe import recipe_evidence
from tests.integration.conftest import write_recipe

zxingcpp = pytest.importorskip("zxingcpp", reason="codes are read with the package zxing-cpp")

WHOLE = {"name": "whole", "rect": [0, 0, 32, 32], "engine": "tiny"}
ID = {"name": "id", "rect": [50, 10, 90, 90], "code": "data-matrix"}
PAPER, INK = 200, 40


def symbol(text, module=4, form="DataMatrix"):
    code = zxingcpp.create_barcode(text, getattr(zxingcpp.BarcodeFormat, form))
    picture = np.asarray(code.to_image(scale=module, add_quiet_zones=False))
    return np.where(picture > 127, PAPER, INK).astype(np.uint8)


def product(*texts, mark=False, angle=0.0, contrast=1.0, noise=0.0, **look):
    """A place for the engine at the left, and codes on paper from x 50, y 10 on, 90 px apart."""
    pixels = np.full((110, 250), 100, np.uint8)
    for number, text in enumerate(texts):
        code = symbol(text, **look)
        middle = np.array(code.shape[::-1]) // 2
        turn = cv2.getRotationMatrix2D(tuple(float(m) for m in middle), angle, 1)
        turn += np.column_stack([np.zeros((2, 2)), 45.0 - middle])
        drawn = cv2.warpAffine(code, turn, (90, 90), borderValue=PAPER)
        pixels[10:100, 50 + 90 * number : 140 + 90 * number] = drawn
    paper = pixels[:, 50:].astype(np.float64)
    paper = 120 + contrast * (paper - 120) + np.random.default_rng(1).normal(0, noise, paper.shape)
    pixels[:, 50:] = np.clip(paper, 0, 255)
    if mark:
        pixels[4:12, 20:28] = 230
    return pixels


def frame(pixels):
    head = FrameHead(
        key=FrameKey("line", "e", 1),
        station="s",
        camera="main",
        recipe="tiny",
        arrived_ns=0,
        time_zero_ns=0,
        unit_id="u1",
    )
    return Frame(head, pixels)


@pytest.fixture
def recipe(tiny_engine, tmp_path):
    """Writes a recipe whose second region is the code, changed as given."""

    def write(**changes):
        return write_recipe(tmp_path, tiny_engine, {"regions": [WHOLE, {**ID, **changes}]})

    return write


@pytest.fixture
def judge(recipe):
    def inspect(pixels, **changes):
        with open_inspector(recipe(**changes)) as inspector:
            return inspector.inspect(frame(pixels))

    return inspect


def test_the_text_of_the_code_is_the_serial(judge):
    found = judge(product("SN-000417"))
    assert (found.outcome, found.serial) == (Outcome.PASS, "SN-000417")
    assert [region.name for region in found.regions] == ["whole"]
    assert found.stages_us["read"] > 0


@pytest.mark.parametrize("angle", [7, 45, 90, 133, 180, 271])
def test_a_data_matrix_is_read_however_it_lies(angle, judge):
    assert judge(product("SN-000417", angle=angle)).serial == "SN-000417"


@pytest.mark.parametrize(
    "look",
    [
        {"contrast": 0.2, "noise": 3.0},
        {"noise": 15.0},
        {"module": 2},
        {"module": 5},
        {"contrast": -0.5},
    ],
    ids=["faint", "noisy", "small", "large", "light on dark"],
)
def test_a_poor_print_is_read(look, judge):
    assert judge(product("SN-000417", **look)).serial == "SN-000417"


def test_a_region_drawn_along_the_code_finds_its_quiet_zone_around_it(judge):
    edge = symbol("SN-000417").shape[0]
    tight = [50 + 45 - edge // 2, 10 + 45 - edge // 2, edge, edge]
    assert judge(product("SN-000417"), rect=tight).serial == "SN-000417"


def test_a_region_at_the_edge_of_the_frame_is_read_without_a_margin(judge):
    pixels = product("SN-000417")[10:100, :140]
    assert judge(pixels, rect=[50, 0, 90, 90]).serial == "SN-000417"


@pytest.mark.parametrize(
    ("code", "look"),
    [
        ("qr-code", {"form": "QRCode", "module": 3}),
        ("code-128", {"form": "Code128", "module": 1}),
        ("any", {"form": "QRCode", "module": 3}),
    ],
)
def test_other_codes_are_read_where_the_region_names_them(code, look, judge):
    assert judge(product("B7", **look), code=code).serial == "B7"
    if code != "any":
        assert judge(product("B7", **look)).serial == ""


def test_a_unit_whose_code_cannot_be_read_is_uninspected_and_told_where(judge):
    found = judge(product())
    assert (found.outcome, found.reason) == (Outcome.UNINSPECTED, Reason.BAD_INPUT)
    assert "region 'id': no code can be read at x 50, y 10" in found.detail
    assert 'unreadable = "unnamed"' in found.detail
    assert found.serial == ""


def test_a_defect_is_a_fail_whether_or_not_the_code_is_read(judge):
    assert judge(product(mark=True)).outcome is Outcome.FAIL
    failed = judge(product("SN-000417", mark=True))
    assert (failed.outcome, failed.serial) == (Outcome.FAIL, "SN-000417")


def test_a_unit_may_go_unnamed_where_the_recipe_says_so(judge):
    assert judge(product(), unreadable="unnamed").outcome is Outcome.PASS
    assert judge(product(mark=True), unreadable="unnamed").outcome is Outcome.FAIL


def test_calibration_scores_what_is_judged_whether_or_not_the_code_is_read(recipe):
    with open_inspector(recipe()) as inspector:
        evidence = recipe_evidence(inspector)
        assert set(evidence(product("SN-000417"), "")) == {"whole"}
        assert set(evidence(product(), "")) == {"whole"}


def test_a_code_is_read_in_the_pose_of_the_product(recipe):
    upright = product("B7", form="Code128", module=1)
    pose = Pose(dx=110.0, dy=60.0, angle_deg=20.0)
    turned = cv2.warpAffine(upright, pose_matrix(pose), (420, 190), borderValue=100)
    readers = open_codes(load_recipe(recipe(code="code-128")))["main"]
    assert read_codes(readers, turned, pose) == ("B7", "")
    serial, problem = read_codes(readers, turned, Pose())
    assert serial == ""
    assert "no code can be read" in problem


def test_two_codes_in_one_region_name_no_unit(judge):
    found = judge(product("ONE", "TWO"), rect=[50, 10, 180, 90])
    assert (found.outcome, found.reason) == (Outcome.UNINSPECTED, Reason.BAD_INPUT)
    assert "2 codes are read; draw the region around one" in found.detail


def test_a_text_that_no_log_line_can_hold_names_no_unit(judge):
    found = judge(product("1" * (MAX_SERIAL + 2), module=2))
    assert found.outcome is Outcome.UNINSPECTED
    assert f"{MAX_SERIAL + 2} characters; a serial has at most {MAX_SERIAL}" in found.detail
    assert judge(product("A\nB")).serial in {"", "A<LF>B"}


def test_a_region_that_leaves_the_frame_says_so(judge):
    found = judge(product("SN-000417"), rect=[200, 10, 90, 90])
    assert found.reason is Reason.BAD_INPUT
    assert "region 'id' lies at x 200.0 to 290.0" in found.detail


def test_the_serial_is_in_the_verdict_and_codes_of_two_cameras_are_joined():
    unit = units.Unit("u:s/u1", FrameKey("line", "e", 1), frame(product()).head, ("a", "b"), 10)
    for camera, serial in (("a", "TOP"), ("b", "BOTTOM")):
        answer = Inspection(outcome=Outcome.PASS, serial=serial)
        unit.parts[camera] = units.Part(unit.head, unit, answer)
    assert units.decide(unit, "tiny", 3, 5).serial == "TOP;BOTTOM"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"code": "pdf417"}, "'data-matrix'"),
        ({"grid": {"rows": 2, "columns": 2}}, "takes no 'grid'"),
        ({"engine": "tiny"}, "or else 'code'"),
        ({"camera": "side"}, "camera 'side' only reads a code"),
    ],
)
def test_a_code_region_that_makes_no_sense_is_refused(changes, problem, recipe):
    path = recipe()
    document = tomlkit.parse(path.read_text())
    document["regions"][1].update(changes)
    path.write_text(tomlkit.dumps(document))
    with pytest.raises(DocumentError, match=problem):
        load_recipe(path)


def test_without_the_package_nothing_is_opened_and_the_remedy_is_named(recipe, monkeypatch):
    monkeypatch.setitem(sys.modules, "zxingcpp", None)
    with (
        pytest.raises(BackendMissing, match=r"pip install 'edge-inspector\[codes\]'"),
        open_inspector(recipe()),
    ):
        pass
