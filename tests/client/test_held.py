"""What a source says of a camera that repeats itself."""

from edge_inspector.client.held import Shown
from edge_inspector.wire.codes import Type
from edge_inspector.wire.header import Header


def told(shown, *frames):
    """Whether each of (digest, trigger id, unit id, camera) is a repeat."""
    return [
        shown.again(
            Header(type=Type.FRAME, digest=digest, trigger_id=trigger, camera=camera), unit_id
        )
        for digest, trigger, unit_id, camera in frames
    ]


def test_the_same_pixels_of_another_unit_are_a_repeat():
    frames = [(7, 1, None, 0), (8, 2, None, 0), (8, 3, None, 0), (8, 4, None, 0), (9, 5, None, 0)]
    assert told(Shown(), *frames) == [False, False, True, True, False]


def test_a_unit_offered_twice_is_none():
    assert told(Shown(), (7, 1, None, 0), (7, 1, None, 0), (7, 2, None, 0)) == [False, False, True]
    assert told(Shown(), (7, 0, "a", 0), (7, 0, "a", 0), (7, 0, "b", 0)) == [False, False, True]


def test_frames_without_a_name_are_each_of_another_unit():
    assert told(Shown(), (7, 0, None, 0), (7, 0, None, 0)) == [False, True]


def test_a_picture_that_was_not_taken_hides_no_repeat():
    assert told(Shown(), (7, 1, None, 0), (0, 2, None, 0), (7, 3, None, 0)) == [False, False, True]


def test_each_camera_has_its_own_pictures_and_none_is_the_first():
    assert told(Shown(), (7, 1, None, 1), (7, 2, None, 2)) == [False, False]
    assert told(Shown(), (7, 1, None, 0), (7, 2, None, 1)) == [False, True]
