import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from bench.align_scenes import (
    SAME_OUTLINE,
    Scene,
    aligners,
    product,
    render,
    strangers,
    sway,
    tray,
    turned,
)
from bench.bench_align import compare
from edge_inspector.align import open_alignment
from edge_inspector.crops import cut
from edge_inspector.errors import DocumentError, Misuse, Uninspectable
from edge_inspector.recipe_alignment import Fiducials, Outline, Template
from edge_inspector.records import Pose, Roi

cv2.setNumThreads(1)
SCENE = Scene(shape=(640, 768), part_px=400, mark_px=26)
PHOTOGRAPHS = Path(__file__).resolve().parents[1] / "../shared/data/bga_poster"
METHODS = ("outline", "template", "fiducials")


@pytest.fixture(scope="module")
def part():
    return product(SCENE)


@pytest.fixture(scope="module")
def found_by(part, tmp_path_factory):
    return aligners(SCENE, part, tmp_path_factory.mktemp("patches"), np.random.default_rng(1))


def seen(part, pose, seed=5):
    return render(SCENE, part, pose, np.random.default_rng(seed))


class TestAccuracy:
    @pytest.mark.parametrize("method", METHODS)
    def test_a_moved_and_turned_part_is_found_to_subpixels(self, method, part, found_by):
        rng = np.random.default_rng(2)
        misses = []
        for _ in range(40):
            pose = sway(SCENE, rng, shift_px=12, angle_deg=1.5)
            found = found_by[method].find(render(SCENE, part, pose, rng))
            misses.append(compare(SCENE, method, pose, found))
            assert found.score > 0.9
        middle, _, angle = np.percentile(misses, 95, axis=0)
        assert middle <= 0.15
        assert angle <= 0.05

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("kind", ["colour", "sixteen bits", "darker"])
    def test_the_kind_of_picture_does_not_move_the_part(self, method, kind, part, found_by):
        pose = turned(SCENE, np.array([4.3, -7.8]), 0.8)
        frame = seen(part, pose)
        made = {
            "colour": lambda: cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR),
            "sixteen bits": lambda: frame.astype(np.uint16) * 257,
            "darker": lambda: (frame * 0.6).astype(np.uint8),
        }
        found = found_by[method].find(made[kind]())
        assert compare(SCENE, method, pose, found)[0] <= 0.1

    def test_an_outline_also_tells_the_scale(self, part):
        spec = Outline(method="outline", size=(256, 256), margin_px=8)
        pose = turned(SCENE, np.array([10.0, 5.0]), 4.0)
        found = open_alignment(spec).find(seen(part, pose))
        assert found.scale == pytest.approx(400 / 240, rel=1e-3)
        assert found.angle_deg == pytest.approx(4.0, abs=0.02)

    def test_the_outline_is_resized_to_the_reference(self, part):
        aligner = open_alignment(Outline(method="outline", size=(256, 256), margin_px=8))
        roi = Roi("package", "main", (0, 0, 256, 256))
        crops = []
        for pose in (Pose(), turned(SCENE, np.array([20.4, 9.7]), 6.0)):
            frame = seen(part, pose)
            crops += cut(frame, aligner.find(frame), [roi], (256, 256, 1))
        one, two = (crop.pixels[10:246, 10:246].astype(float) for crop in crops)
        assert np.abs(one - two).mean() < 4
        assert crops[0].pixels[128, :6].min() > 100
        assert crops[0].pixels[128, 11:24].max() < 70

    def test_a_bright_body_on_a_dark_tray_is_found(self, part):
        frame = 255 - seen(part, Pose())
        found = open_alignment(Outline(method="outline", polarity="bright", size=(400, 400))).find(
            frame
        )
        assert (found.dx, found.dy) == pytest.approx(tuple(SCENE.origin), abs=0.1)

    def test_balls_brighter_than_a_dark_tray_do_not_hide_the_body(self, part):
        frame = seen(part, Pose())
        dark = np.where(frame > 170, frame, frame // 2 + 20).astype(np.uint8)
        found = open_alignment(Outline(method="outline", size=(400, 400))).find(dark)
        assert (found.dx, found.dy) == pytest.approx(tuple(SCENE.origin), abs=0.2)

    def test_a_chipped_side_does_not_move_the_outline(self, part, found_by):
        frame = seen(part, Pose())
        x, y = (int(value) for value in SCENE.origin)
        frame[y + 150 : y + 200, x - 2 : x + 9] = 140
        found = found_by["outline"].find(frame)
        assert (found.dx, found.dy) == pytest.approx(tuple(SCENE.origin), abs=0.1)

    def test_scratches_on_the_patch_hardly_move_it(self, part, found_by):
        frame = seen(part, Pose())
        x, y = (int(value) for value in SCENE.origin + 200)
        cv2.line(frame, (x + 10, y - 100), (x + 60, y - 115), 110, 2)
        found = found_by["template"].find(frame)
        assert compare(SCENE, "template", Pose(), found)[0] <= 0.15

    def test_without_alignment_the_frame_is_the_reference(self):
        assert open_alignment(None).find(np.zeros((8, 8), np.uint8)) == Pose()

    def test_a_template_turns_as_far_as_it_may(self, part, tmp_path):
        frame = seen(part, Pose(), seed=9)
        x, y = (int(value) for value in SCENE.origin + 180)
        cv2.imwrite(str(tmp_path / "t.png"), frame[y - 170 : y + 170, x - 170 : x + 170])
        aligner = open_alignment(
            Template(
                method="template",
                image=tmp_path / "t.png",
                position=(x - 170, y - 170),
                search_px=30,
                max_angle_deg=30,
            )
        )
        for angle in (-29.0, -11.3, 17.7, 29.5):
            pose = turned(SCENE, np.array([5.5, 3.25]), angle)
            found = aligner.find(seen(part, pose))
            middle, _, turn = compare(SCENE, "template", pose, found)
            assert middle <= 0.15
            assert turn <= 0.05


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the BGA poster's photographs are not here")
def test_the_packages_of_the_bga_poster_are_found():
    aligner = open_alignment(Outline(method="outline", size=(220, 256)))
    for path in sorted(PHOTOGRAPHS.glob("*.jpg")):
        photograph = cv2.imread(str(path))
        assert photograph is not None
        found = aligner.find(photograph)
        assert found.scale == pytest.approx(0.89, abs=0.02), path.name
        assert abs(found.angle_deg) < 1, path.name
        assert found.score > 0.8, path.name


class TestNeverAGuess:
    @pytest.mark.parametrize("method", METHODS)
    def test_frames_without_the_part_are_bad_input(self, method, part, found_by):
        for kind, frame in itertools.islice(
            strangers(SCENE, part, np.random.default_rng(3)), 3 * 14
        ):
            if method == "outline" and kind in SAME_OUTLINE:
                continue
            with pytest.raises(Uninspectable) as caught:
                found_by[method].find(frame)
            assert caught.value.reason == "bad_input", kind

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("level", [0, 128, 255])
    def test_a_blank_frame_is_bad_input(self, method, level, found_by):
        with pytest.raises(Uninspectable):
            found_by[method].find(np.full(SCENE.shape, level, np.uint8))

    @pytest.mark.parametrize("method", ["template", "fiducials"])
    def test_a_frame_of_another_size_is_bad_input(self, method, found_by):
        with pytest.raises(Uninspectable, match=r"does not cover|leaves"):
            found_by[method].find(np.zeros((100, 100), np.uint8))

    def test_the_reason_tells_what_was_found_and_what_is_asked(self, found_by):
        frame = tray(SCENE, np.random.default_rng(4))
        with pytest.raises(Uninspectable, match=r"'template.png' scores .* at least 0.7 is asked"):
            found_by["template"].find(frame)
        with pytest.raises(Uninspectable, match=r"'mark.png' scores .* at least 0.7 is asked"):
            found_by["fiducials"].find(frame)

    def test_a_body_that_is_too_small_is_refused_with_its_share(self):
        frame = np.full((600, 800), 180, np.uint8)
        frame[200:300, 200:300] = 20
        with pytest.raises(Uninspectable, match=r"covers 0\.0[12]\d of the frame; .* is 0.1"):
            open_alignment(Outline(method="outline")).find(frame)

    def test_a_body_turned_too_far_is_refused_with_its_angle(self, part, found_by):
        with pytest.raises(Uninspectable, match=r"turned by 1[12]\.\d+ degrees; .* is 10.0"):
            found_by["outline"].find(seen(part, turned(SCENE, np.zeros(2), 11.8)))

    def test_a_body_of_another_shape_is_refused_with_its_aspect(self, part):
        with pytest.raises(Uninspectable, match=r"1\.33 times as wide"):
            open_alignment(Outline(method="outline", size=(192, 256))).find(seen(part, Pose()))

    def test_a_body_that_is_cut_off_is_refused(self, part, found_by):
        with pytest.raises(Uninspectable, match="edge of the frame"):
            found_by["outline"].find(seen(part, turned(SCENE, np.array([250.0, 0]), 0)))

    def test_a_part_outside_of_the_search_is_refused(self, part, found_by):
        frame = seen(part, turned(SCENE, np.array([76.0, 0]), 0))
        for method in ("template", "fiducials"):
            with pytest.raises(Uninspectable):
                found_by[method].find(frame)

    def test_a_patch_that_repeats_is_refused_as_ambiguous(self, part, tmp_path):
        frame = seen(part, Pose())
        pitch = int(0.74 * 400 / 8)
        x, y = (int(value) for value in SCENE.origin + 52 + 2 * pitch)
        cv2.imwrite(str(tmp_path / "balls.png"), frame[y : y + 3 * pitch, x : x + 3 * pitch])
        aligner = open_alignment(
            Template(method="template", image=tmp_path / "balls.png", position=(x, y))
        )
        with pytest.raises(Uninspectable, match=r"two places \d+ px apart"):
            aligner.find(frame)

    def test_a_hidden_mark_is_refused_by_its_number(self, part, found_by):
        frame = seen(part, Pose())
        x, y = (int(value) for value in SCENE.marks[1])
        frame[y - 16 : y + 17, x - 16 : x + 17] = 45
        with pytest.raises(Uninspectable, match="fiducial 2"):
            found_by["fiducials"].find(frame)

    def test_marks_that_do_not_keep_their_distance_are_refused(self, found_by):
        other = replace(SCENE, mark_inset=0.09)
        frame = render(other, product(other), Pose(), np.random.default_rng(6))
        with pytest.raises(Uninspectable, match=r"max_residual_px is 1\.0"):
            found_by["fiducials"].find(frame)


def test_a_margin_that_leaves_no_body_is_refused():
    with pytest.raises(Misuse, match="margin_px = 128 leaves nothing of size 256 x 256"):
        open_alignment(Outline(method="outline", margin_px=128))


class TestImages:
    @pytest.mark.parametrize("method", ["template", "fiducials"])
    def test_a_missing_image_is_named(self, method, tmp_path):
        path = tmp_path / "nowhere.png"
        positions = ((0.0, 0.0), (9.0, 9.0))
        spec: Template | Fiducials
        if method == "template":
            spec = Template(method="template", image=path, position=positions[0])
        else:
            spec = Fiducials(method="fiducials", image=path, positions=positions)
        with pytest.raises(DocumentError, match=r"nowhere\.png: there is no such image"):
            open_alignment(spec)

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"not a picture", "cannot be read|not an image"),
            (np.full((40, 40), 90, np.uint8), "nothing to be found"),
            (np.eye(8, dtype=np.uint8) * 200, "8 x 8 px"),
        ],
    )
    def test_an_image_that_cannot_serve_is_refused_with_the_reason(
        self, content, problem, tmp_path
    ):
        path = tmp_path / "t.png"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            cv2.imwrite(str(path), content)
        with pytest.raises(DocumentError, match=problem):
            open_alignment(Template(method="template", image=path, position=(0, 0)))


@pytest.mark.slow
def test_the_bench_finds_every_part_and_no_stranger():
    bench = Path(__file__).resolve().parents[1] / "bench/bench_align.py"
    command = [sys.executable, str(bench), "--frames", "2", "--strangers", "14"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    for method in METHODS:
        assert (report["methods"][method]["lost"], report["methods"][method]["wrong"]) == (0, 0)
