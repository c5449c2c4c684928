from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.align import open_alignment
from edge_inspector.crops import cut, expand
from edge_inspector.errors import DataError
from edge_inspector.recipe import Recipe, load_recipe
from edge_inspector.recipe_alignment import Fiducials, Outline, Template
from edge_inspector.simulator import connector, package
from edge_inspector.simulator.parts import NORMAL, Variation
from edge_inspector.simulator.parts import compose as compose_package
from edge_inspector.studies.dataset import read_image
from edge_inspector.studies.propose import propose, propose_cameras
from edge_inspector.studies.recipe_text import write_recipe

REAL = Path(__file__).resolve().parents[2] / "../shared/data"
MOVES = Variation(jitter_px=0.25, size=0.015, shift_px=4, rotation_deg=0.6)


def connectors(count: int, start: int = 0, times: int = 1):
    made = [connector.compose(np.random.default_rng([7, start + n]), MOVES) for n in range(count)]
    return [cv2.resize(unit.pixels, None, fx=times, fy=times) for unit in made]


def packages(count: int, variation: Variation):
    rngs = [np.random.default_rng([8, number]) for number in range(count)]
    return [compose_package(package.parts(), rng, variation).pixels for rng in rngs]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return propose(connectors(10), "EI-12P", tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return propose(connectors(8, times=3), "EI-12P", tmp_path_factory.mktemp("large"))


def written(recipe: Recipe, folder: Path) -> Recipe:
    write_recipe(recipe, folder / "recipe.toml")
    return load_recipe(folder / "recipe.toml")


def test_a_moving_product_is_proposed_with_an_alignment_that_holds_on_fresh_frames(small, tmp_path):
    recipe = written(small, tmp_path)
    spec = recipe.alignment["main"]
    crops = []
    for frame in connectors(12, start=100):
        pose = open_alignment(spec).find(frame)
        crops.append(cut(frame, pose, expand(recipe)[:1], (224, 320, 1))[0].pixels)
    plain = [frame[20:200] for frame in connectors(12, start=100)]
    calm, restless = (np.stack(views).std(axis=0).mean() for views in (crops, plain))
    assert calm < 0.6 * restless


def test_a_defective_and_a_black_frame_among_the_good_ones_change_little(small, tmp_path) -> None:
    frames = connectors(10)
    spoilt = [*frames, np.zeros_like(frames[0])]
    spoilt[3] = connector.compose(np.random.default_rng([7, 3]), MOVES, "missing_pin").pixels
    one, two = small, propose(spoilt, "EI-12P", tmp_path)
    assert [region.name for region in one.regions] == [region.name for region in two.regions]
    assert one.alignment["main"].method == two.alignment["main"].method
    assert np.abs(np.subtract(one.regions[0].rect, two.regions[0].rect)).max() <= 12


def test_what_stands_out_of_the_outlined_body_is_judged_too(small: Recipe) -> None:
    recipe = small
    frame = connectors(1, start=50)[0]
    pose = open_alignment(recipe.alignment["main"]).find(frame)
    roi = next(roi for roi in expand(recipe) if "whole" in roi.name)
    box = cut(frame, pose, [roi], (224, 320, 1))[0].frame_box
    pins = np.argwhere(frame > 195)
    assert pins[:, 0].max() < box[1] + box[3]
    assert (pins[:, 0] > 150).sum() > 100


def test_parts_that_repeat_get_a_cell_each_and_share_an_engine(large: Recipe, tmp_path) -> None:
    recipe = written(large, tmp_path)
    cells = next(region for region in recipe.regions if region.name == "cells")
    assert cells.grid is not None
    assert (cells.grid.rows, cells.grid.columns) == (1, 12)
    assert cells.engine == "cell"
    assert recipe.engines["cell"].parts[-3:] == ("engines", "cell", "1")
    assert sum(region.engine != "cell" for region in recipe.regions) >= 1


def test_a_product_larger_than_the_frame_is_found_by_a_patch_kept_beside_the_recipe(tmp_path):
    rng = np.random.default_rng(3)
    board = cv2.GaussianBlur(rng.integers(0, 255, (400, 500), dtype=np.uint8), (0, 0), 6)
    board = cv2.normalize(board, board, 0, 255, cv2.NORM_MINMAX)
    shifts = rng.integers(0, 20, (8, 2))
    frames = [np.ascontiguousarray(board[y : y + 360, x : x + 460]) for x, y in shifts.tolist()]
    spec = propose(frames, "board", tmp_path).alignment["main"]
    assert isinstance(spec, (Template, Fiducials))
    assert spec.image.parent == tmp_path.resolve()
    assert [path.name for path in tmp_path.glob("main-mark-*.png")] == [spec.image.name]
    poses = [open_alignment(spec).find(frame) for frame in frames]
    places = np.array([(pose.dx, pose.dy) for pose in poses]) + shifts
    assert np.ptp(places, axis=0).max() < 0.5


def test_a_product_that_stays_is_taken_as_it_comes_whole(tmp_path: Path) -> None:
    still = Variation(jitter_px=0.2, shift_px=0, rotation_deg=0)
    recipe = propose(packages(8, still), "package", tmp_path)
    assert recipe.alignment == {}
    assert [(region.name, region.rect) for region in recipe.regions] == [
        ("whole", (0, 0, 256, 256))
    ]


def test_a_package_of_small_balls_is_outlined_and_judged_whole(tmp_path: Path) -> None:
    recipe = propose(packages(10, NORMAL), "package", tmp_path)
    assert isinstance(recipe.alignment["main"], Outline)
    assert [region.name for region in recipe.regions] == ["whole"]
    x, y, width, height = recipe.regions[0].rect
    margin = recipe.alignment["main"].margin_px
    size = recipe.alignment["main"].size
    assert x <= margin
    assert y <= margin
    assert width >= size[0] - 2 * margin
    assert height >= size[1] - 2 * margin


def test_frames_with_nothing_in_common_are_cut_into_tiles_of_one_engine(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    frames = [
        cv2.GaussianBlur(rng.integers(0, 255, (600, 700), dtype=np.uint8), (0, 0), 3)
        for _ in range(5)
    ]
    recipe = propose(frames, "felt", tmp_path)
    assert recipe.alignment == {}
    assert list(recipe.engines) == ["tile"]
    assert len(expand(recipe)) == 4


def test_two_cameras_get_regions_and_engines_of_their_own(tmp_path: Path) -> None:
    still = Variation(jitter_px=0.2, shift_px=0, rotation_deg=0)
    frames = packages(5, still)
    proposal = propose_cameras({"top": frames, "side": frames}, "package", tmp_path)
    assert [(r.name, r.camera) for r in written(proposal.recipe, tmp_path).regions] == [
        ("top-whole", "top"),
        ("side-whole", "side"),
    ]
    assert set(proposal.why) == set(proposal.shown) == {"top", "side"}


def test_too_few_frames_or_frames_of_several_sizes_are_refused(tmp_path: Path) -> None:
    frames = packages(4, NORMAL)
    with pytest.raises(DataError, match=r"'main' has 3 frames; at least 4 .* record more"):
        propose(frames[:3], "p", tmp_path)
    with pytest.raises(DataError, match=r"2 sizes \(200 x 256, 256 x 256 px"):
        propose([*frames, frames[0][:, :200]], "p", tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared frames are absent: boards and packages")
@pytest.mark.parametrize(("folder", "engines"), [("deeppcb_frames/44000", 1), ("bga_poster", 1)])
def test_real_frames_get_a_recipe(tmp_path: Path, folder: str, engines: int) -> None:
    paths = sorted((REAL / folder).glob("*_temp.jpg"))[:8] or sorted((REAL / folder).glob("*.jpg"))
    frames = [read_image(path) for path in paths]
    recipe = written(propose(frames, "real", tmp_path), tmp_path)
    assert len(recipe.engines) == engines
    for frame in frames:
        assert len(cut(frame, open_alignment(None).find(frame), expand(recipe), (64, 64, 1))) >= 1
