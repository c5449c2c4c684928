import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_inspector.crops import crop_mask, cut, expand, expand_region, fit, squared, to_frame
from edge_inspector.errors import Misuse, Uninspectable
from edge_inspector.recipe import Grid, Recipe, Region
from edge_inspector.records import Pose, Roi

cv2.setNumThreads(1)
SHAPE = (64, 64, 1)


def smooth(height, width):
    """A picture without fine detail, so that how it was interpolated does not matter."""
    y, x = np.mgrid[:height, :width]
    return np.rint(128 + 60 * np.sin(x / 37 + 1) + 60 * np.cos(y / 29)).astype(np.uint8)


def value(x, y):
    return 128 + 60 * np.sin(x / 37 + 1) + 60 * np.cos(y / 29)


def region(**more):
    return Region(name="body", rect=(10, 20, 60, 40), engine="e", **more)


def roi(box, mask=None):
    return Roi("body", "main", box, mask)


def difference(one, other):
    return np.abs(one.astype(int) - other.astype(int)).max()


class TestFit:
    def test_the_same_size_is_not_copied(self):
        pixels = smooth(64, 64)
        assert np.shares_memory(fit(pixels, 64, 64, 1), pixels)

    def test_whole_factors_are_block_means(self):
        pixels = np.random.default_rng(1).integers(0, 256, (192, 256), dtype=np.uint8)
        means = pixels.reshape(64, 3, 64, 4).mean(axis=(1, 3))
        assert np.abs(fit(pixels, 64, 64, 1) - means).max() <= 0.51

    @pytest.mark.parametrize("size", [65, 127, 191, 200, 255, 257, 1000])
    def test_any_factor_maps_the_whole_to_the_whole(self, size):
        centres = (np.arange(64) + 0.5) * size / 64 - 0.5
        expected = value(centres[None, :] * 300 / size, centres[:, None] * 300 / size)
        y, x = np.mgrid[:size, :size] * 300 / size
        found = fit(np.rint(value(x, y)).astype(np.uint8), 64, 64, 1)
        assert np.abs(found - expected)[1:-1, 1:-1].max() <= 2

    @pytest.mark.parametrize("size", [20, 63])
    def test_small_areas_are_enlarged(self, size):
        pixels = smooth(size, size)
        assert difference(fit(pixels, 64, 64, 1), cv2.resize(pixels, (64, 64))) == 0

    def test_sixteen_bits_are_scaled_by_their_depth_and_not_by_their_values(self):
        dim = np.full((32, 32), 257 * 3, np.uint16)
        assert (fit(dim, 32, 32, 1) == 3).all()
        assert (fit(np.full((8, 8), 65535, np.uint16), 8, 8, 1) == 255).all()

    @pytest.mark.parametrize("planes", [None, 1, 3, 4])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("depth", [np.uint8, np.uint16])
    def test_every_kind_of_picture_becomes_what_the_engine_takes(self, planes, channels, depth):
        shape = (100, 80) if planes is None else (100, 80, planes)
        found = fit(np.full(shape, np.iinfo(depth).max // 3, depth), 32, 32, channels)
        assert found.shape == ((32, 32) if channels == 1 else (32, 32, 3))
        assert found.dtype == np.uint8
        assert (found == 85).all()

    def test_colour_keeps_its_order_and_grey_weighs_it(self):
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[:, :, 2] = 200
        assert fit(pixels, 8, 8, 3)[0, 0].tolist() == [0, 0, 200]
        assert fit(pixels, 8, 8, 1)[0, 0] == 60

    def test_square_cuts_the_middle(self):
        pixels = np.zeros((50, 90), np.uint8)
        pixels[:, 20:70] = 9
        assert (fit(pixels, 50, 50, 1, square=True) == 9).all()

    @pytest.mark.parametrize(
        "pixels",
        [
            np.zeros((8, 8), np.float32),
            np.zeros((8, 8), bool),
            np.zeros((8, 8, 2), np.uint8),
            np.zeros((0, 8), np.uint8),
            np.zeros(8, np.uint8),
        ],
    )
    def test_other_pixels_are_bad_input_with_their_kind(self, pixels):
        with pytest.raises(Uninspectable, match=str(pixels.dtype)) as caught:
            fit(pixels, 8, 8, 1)
        assert caught.value.reason == "bad_input"


class TestExpand:
    def test_a_plain_region_keeps_its_name_and_place(self):
        (only,) = expand_region(region())
        assert (only.name, only.camera, only.box, only.mask) == (
            "body",
            "main",
            (10, 20, 60, 40),
            None,
        )

    def test_a_grid_is_cut_into_cells_named_from_one(self):
        cells = expand_region(region(grid=Grid(rows=2, columns=3)))
        assert [c.name for c in cells] == [
            f"body-r{r}c{c}" for r, c in itertools.product((1, 2), (1, 2, 3))
        ]
        assert cells[0].box == (10, 20, 20, 20)
        assert cells[5].box == (50, 40, 20, 20)

    @given(
        width=st.integers(8, 200),
        height=st.integers(8, 200),
        rows=st.integers(1, 8),
        columns=st.integers(1, 8),
    )
    @settings(max_examples=40, deadline=None)
    def test_cells_cover_the_region_exactly_once(self, width, height, rows, columns):
        whole = Region(
            name="a", rect=(5, 7, width, height), engine="e", grid=Grid(rows=rows, columns=columns)
        )
        seen = np.zeros((height + 7, width + 5), int)
        for cell in expand_region(whole):
            x, y, w, h = cell.box
            seen[y : y + h, x : x + w] += 1
        assert (seen[7:, 5:] == 1).all()
        assert seen.sum() == width * height

    def test_a_grid_finer_than_pixels_is_refused(self):
        with pytest.raises(Misuse, match="64 x 64 cells"):
            expand_region(region(grid=Grid(rows=64, columns=64)))

    def test_polygons_become_masks_of_the_cells_they_touch(self):
        square = ((40.0, 20.0), (69.0, 20.0), (69.0, 59.0), (40.0, 59.0))
        left, right = expand_region(region(grid=Grid(rows=1, columns=2), ignore=(square[:3],)))
        assert left.mask is None
        assert right.mask is not None
        assert right.mask.shape == (40, 30)
        assert right.mask[1, 28] == 255
        assert right.mask[38, 1] == 0

    def test_a_cell_that_is_ignored_whole_is_left_out(self):
        half = ((0.0, 0.0), (39.0, 0.0), (39.0, 100.0), (0.0, 100.0))
        cells = expand_region(region(grid=Grid(rows=1, columns=2), ignore=(half,)))
        assert [cell.name for cell in cells] == ["body-r1c2"]

    def test_a_region_that_is_ignored_whole_is_refused(self):
        everything = ((0.0, 0.0), (200.0, 0.0), (200.0, 200.0), (0.0, 200.0))
        with pytest.raises(Misuse, match="'body'"):
            expand_region(region(ignore=(everything,)))

    def test_all_regions_of_a_recipe_come_in_its_order(self):
        recipe = Recipe(
            product="p",
            version=1,
            latency_budget_ms=50,
            rules={"r": "r.toml"},
            regions=(
                Region(name="z", rect=(0, 0, 8, 8), rules="r", grid=Grid(rows=1, columns=2)),
                Region(name="a", rect=(0, 0, 8, 8), rules="r", camera="top"),
            ),
        )
        assert [(r.name, r.camera) for r in expand(recipe)] == [
            ("z-r1c1", "main"),
            ("z-r1c2", "main"),
            ("a", "top"),
        ]

    def test_squared_keeps_the_middle_and_its_mask(self):
        mask = np.zeros((40, 60), np.uint8)
        mask[:, 10:12] = 255
        middle = squared(roi((10, 20, 60, 40), mask))
        assert middle.box == (20, 20, 40, 40)
        assert middle.mask is not None
        assert (middle.mask[:, :2] == 255).all()


class TestCut:
    def test_without_alignment_a_crop_is_a_slice(self):
        frame = smooth(200, 300)
        (crop,) = cut(frame, Pose(), [roi((30, 40, 64, 64))], SHAPE)
        assert np.shares_memory(crop.pixels, frame)
        assert (crop.pixels == frame[40:104, 30:94]).all()
        assert crop.frame_box == (30, 40, 64, 64)

    def test_a_pose_of_whole_pixels_moves_the_slice(self):
        frame = smooth(200, 300)
        (crop,) = cut(frame, Pose(dx=7, dy=-5), [roi((30, 40, 64, 64))], SHAPE)
        assert np.shares_memory(crop.pixels, frame)
        assert crop.frame_box == (37, 35, 64, 64)

    @given(
        angle=st.floats(-180, 180),
        scale=st.floats(0.5, 4),
        dx=st.floats(-3, 3),
        dy=st.floats(-3, 3),
    )
    @settings(max_examples=60, deadline=None)
    def test_each_crop_pixel_shows_its_place_on_the_product(self, angle, scale, dx, dy):
        box = (10, 14, 80, 64)
        turn = cv2.getRotationMatrix2D((0, 0), angle, scale)
        middle = turn[:, :2] @ (50, 46)
        pose = Pose(300 - middle[0] + dx, 300 - middle[1] + dy, angle, scale)
        (crop,) = cut(smooth(600, 600), pose, [roi(box)], SHAPE)
        v, u = np.mgrid[:64, :64]
        x, y = 10 + (u + 0.5) * 80 / 64 - 0.5, 14 + (v + 0.5) - 0.5
        place = turn[:, :2] @ np.array([x.ravel(), y.ravel()]) + [[pose.dx], [pose.dy]]
        expected = value(*place).reshape(64, 64)
        assert np.abs(crop.pixels - expected).max() <= 2.5

    def test_a_subpixel_pose_shrinks_as_fit_does(self):
        noise = np.random.default_rng(2).integers(0, 256, (400, 400), dtype=np.uint8)
        blurred = cv2.GaussianBlur(noise, (0, 0), 2)
        near = cut(blurred, Pose(dx=1e-4), [roi((50, 50, 256, 256))], SHAPE)[0].pixels
        same = cut(blurred, Pose(), [roi((50, 50, 256, 256))], SHAPE)[0].pixels
        assert difference(near, same) <= 1

    def test_sixteen_bit_colour_frames_are_cut_too(self):
        frame = np.full((100, 100, 3), 257 * 40, np.uint16)
        (crop,) = cut(frame, Pose(0.5, 0.5, 2.0), [roi((20, 20, 40, 40))], (32, 32, 3))
        assert crop.pixels.shape == (32, 32, 3)
        assert (crop.pixels == 40).all()

    @pytest.mark.parametrize(
        ("pose", "box"),
        [
            (Pose(dx=-11), (10, 10, 64, 64)),
            (Pose(dy=40), (10, 100, 64, 64)),
            (Pose(dx=0.6), (236, 10, 64, 64)),
            (Pose(angle_deg=10), (0, 0, 64, 64)),
            (Pose(), (290, 0, 64, 64)),
        ],
    )
    def test_a_region_that_leaves_the_frame_is_bad_input_and_never_clipped(self, pose, box):
        with pytest.raises(Uninspectable, match=r"'body' .* 300 x 200 px") as caught:
            cut(smooth(200, 300), pose, [roi(box)], SHAPE)
        assert caught.value.reason == "bad_input"

    def test_a_region_at_the_edge_may_hang_over_by_half_a_pixel(self):
        frame = smooth(200, 300)
        (crop,) = cut(frame, Pose(dx=0.4), [roi((236, 136, 64, 64))], SHAPE)
        assert crop.frame_box == (236, 136, 64, 64)
        assert difference(crop.pixels, frame[136:, 236:]) <= 3


class TestMasks:
    def masked(self):
        mask = np.zeros((64, 64), np.uint8)
        mask[10:30, 20:40] = 255
        return mask

    def test_masked_pixels_get_the_mean_of_the_judged_ones(self):
        frame = np.full((64, 64), 100, np.uint8)
        frame[10:30, 20:40] = 250
        (crop,) = cut(frame, Pose(), [roi((0, 0, 64, 64), self.masked())], SHAPE)
        assert (crop.pixels == 100).all()
        assert frame.max() == 250

    @pytest.mark.parametrize("channels", [1, 3])
    def test_what_lies_under_a_mask_does_not_reach_the_scorer(self, channels):
        rng = np.random.default_rng(3)
        frame = rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)
        other = frame.copy()
        other[11:29, 21:39] = rng.integers(0, 256, (18, 18, 3))
        shape = (48, 48, channels)
        one, two = (
            cut(f, Pose(0.25, 0.25), [roi((0, 0, 64, 64), self.masked())], shape)[0].pixels
            for f in (frame, other)
        )
        assert (one == two).all()

    def test_a_mask_grows_to_every_crop_pixel_it_touches(self):
        mask = np.zeros((64, 64), np.uint8)
        mask[33, 17] = 255
        small = crop_mask(mask, 8, 8)
        assert small[4, 2] == 255
        assert np.count_nonzero(small) == 1


class TestToFrame:
    def test_without_alignment_it_scales_and_moves(self):
        (crop,) = cut(smooth(300, 300), Pose(), [roi((30, 40, 128, 128))], SHAPE)
        assert to_frame(crop, (8, 4, 10, 2), Pose()) == (46, 48, 20, 4)

    def test_the_whole_crop_is_its_frame_box(self):
        pose = Pose(40.3, 20.7, 12.0, 1.1)
        (crop,) = cut(smooth(400, 400), pose, [roi((60, 70, 128, 100))], SHAPE)
        assert to_frame(crop, (0, 0, 64, 64), pose) == crop.frame_box

    def test_a_spot_is_found_again_in_the_frame(self):
        frame = np.zeros((400, 400), np.uint8)
        frame[200:206, 150:156] = 255
        pose = Pose(40.3, 80.7, 12.0, 1.1)
        (crop,) = cut(frame, pose, [roi((40, 50, 128, 128))], (128, 128, 1))
        spot = cv2.boundingRect((crop.pixels > 127).astype(np.uint8))
        x, y, w, h = to_frame(crop, (spot[0], spot[1], spot[2], spot[3]), pose)
        assert abs(x + w / 2 - 153) <= 1
        assert abs(y + h / 2 - 203) <= 1
