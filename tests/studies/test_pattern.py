import cv2
import numpy as np
import pytest

from edge_inspector.studies.alike import group_alike
from edge_inspector.studies.pattern import find_blocks
from edge_inspector.studies.round_marks import round_marks


def drawn(rows: int, columns: int, pitch: tuple[int, int], at: tuple[int, int], seed: int = 0):
    rng = np.random.default_rng(seed)
    picture = np.full((300, 400), 60, np.uint8)
    cv2.rectangle(picture, (15, 10), (385, 290), 40, -1)
    for row in range(rows):
        for column in range(columns):
            place = (at[0] + column * pitch[0], at[1] + row * pitch[1])
            cv2.circle(picture, place, 8, 220, -1, cv2.LINE_AA)
    return np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def test_a_block_of_parts_is_found_with_its_rows_and_columns() -> None:
    [block] = find_blocks(drawn(5, 7, (32, 40), (80, 60)))
    assert (block.rows, block.columns) == (5, 7)
    x, y, width, height = block.box
    assert (x, y) == pytest.approx((64, 40), abs=4)
    assert (width, height) == pytest.approx((7 * 32, 5 * 40), abs=4)


def test_two_blocks_of_the_same_pitch_are_two() -> None:
    left, right = drawn(6, 3, (30, 30), (60, 70)), drawn(6, 3, (30, 30), (290, 70))
    blocks = find_blocks(np.maximum(left, right))
    assert [(b.rows, b.columns) for b in blocks] == [(6, 3), (6, 3)]
    assert blocks[0].box[0] < blocks[1].box[0]


def test_one_row_of_parts_is_a_block_of_one_row() -> None:
    [block] = find_blocks(drawn(1, 9, (36, 1), (50, 150)))
    assert (block.rows, block.columns) == (1, 9)


def test_noise_and_a_plain_body_repeat_nothing() -> None:
    rng = np.random.default_rng(1)
    assert find_blocks(rng.integers(0, 255, (200, 300), dtype=np.uint8)) == []
    assert find_blocks(drawn(0, 0, (1, 1), (0, 0))) == []
    assert find_blocks(np.full((100, 100), 7, np.uint8)) == []


def test_areas_are_alike_by_their_layout_and_textures_by_their_level() -> None:
    rng = np.random.default_rng(2)
    frames = []
    for number in range(6):
        frame = drawn(1, 2, (100, 1), (100, 100), seed=number)
        cv2.rectangle(frame, (280, 80), (330, 120), 200, -1)
        frame[200:280, 20:180] = rng.integers(90, 150, (80, 160))
        frames.append(frame)
    boxes = [(70, 70, 60, 60), (170, 70, 60, 60), (270, 70, 60, 60), (20, 200, 80, 80)]
    assert group_alike(frames, [*boxes, (100, 200, 80, 80)]) == [0, 0, 1, 2, 2]


def test_marks_are_round_alike_and_far_apart() -> None:
    picture = np.full((200, 300), 90, np.uint8)
    for place in ((30, 30), (270, 35), (40, 170)):
        cv2.circle(picture, place, 9, 230, -1, cv2.LINE_AA)
    cv2.rectangle(picture, (130, 80), (160, 110), 230, -1)
    marks, side = round_marks(picture)
    assert sorted(np.round(marks).astype(int).tolist()) == [[30, 30], [40, 170], [270, 35]]
    assert side % 2 == 1
    assert side > 2 * 9
