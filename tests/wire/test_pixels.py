import cv2
import numpy as np
import pytest

from edge_inspector.errors import Uninspectable
from edge_inspector.records import FrameHead, FrameKey
from edge_inspector.wire.pixels import to_array

SCENE = np.random.default_rng(3).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def head(codec="raw", pixel_format="mono8", height=0, width=0):
    return FrameHead(
        key=FrameKey("s", "e", 1),
        station="st1",
        camera="main",
        recipe="board",
        arrived_ns=0,
        time_zero_ns=0,
        codec=codec,
        pixel_format=pixel_format,
        height=height,
        width=width,
    )


def flat(array):
    return np.frombuffer(array.tobytes(), np.uint8)


@pytest.mark.parametrize(
    ("pixel_format", "array", "expected"),
    [
        ("mono8", SCENE[..., 0], SCENE[..., 0]),
        ("bgr8", SCENE, SCENE),
        ("rgb8", SCENE[..., ::-1], SCENE),
        ("bgra8", cv2.cvtColor(SCENE, cv2.COLOR_BGR2BGRA), SCENE),
        ("rgba8", cv2.cvtColor(SCENE, cv2.COLOR_BGR2RGBA), SCENE),
        ("mono16", SCENE[..., 0] * np.uint16(257), SCENE[..., 0] * np.uint16(257)),
        ("bgr16", SCENE * np.uint16(257), SCENE * np.uint16(257)),
    ],
)
def test_raw_formats_become_mono_or_bgr(pixel_format, array, expected):
    seen = to_array(head("raw", pixel_format, 12, 16), flat(array))
    assert seen.dtype == expected.dtype
    assert np.array_equal(seen, expected)


def test_high_byte_first_is_turned_round():
    values = (np.arange(192).reshape(12, 16) * 300).astype(">u2")
    seen = to_array(head("raw-be", "mono16", 12, 16), flat(values))
    assert seen.dtype == np.uint16
    assert seen.dtype.isnative
    assert np.array_equal(seen, values)


@pytest.mark.parametrize(
    ("pixel_format", "red_at"),
    [("bayer_rg8", (0, 0)), ("bayer_gr8", (0, 1)), ("bayer_gb8", (1, 0)), ("bayer_bg8", (1, 1))],
)
def test_bayer_names_the_first_two_pixels_of_the_first_row(pixel_format, red_at):
    """In a scene that is all red, only the red sites are lit."""
    mosaic = np.zeros((12, 16), np.uint8)
    mosaic[red_at[0] :: 2, red_at[1] :: 2] = 200
    seen = to_array(head("raw", pixel_format, 12, 16), flat(mosaic))
    assert np.all(seen[2:-2, 2:-2] == (0, 0, 200))


def test_mono_and_bgr_are_views():
    for pixel_format, array in (("mono8", SCENE[..., 0]), ("bgr8", SCENE)):
        buffer = flat(array)
        assert np.shares_memory(to_array(head("raw", pixel_format, 12, 16), buffer), buffer)


@pytest.mark.parametrize(
    "image", [SCENE, SCENE[..., 0], SCENE * np.uint16(257)], ids=["colour", "grey", "16 bits"]
)
def test_a_png_decodes_to_itself(image):
    buffer = cv2.imencode(".png", image)[1].reshape(-1)
    assert np.array_equal(to_array(head("png", "bgr8"), buffer), image)


def test_transparency_is_dropped():
    buffer = cv2.imencode(".png", cv2.cvtColor(SCENE, cv2.COLOR_BGR2BGRA))[1].reshape(-1)
    assert np.array_equal(to_array(head("png", "bgr8"), buffer), SCENE)


def test_a_jpeg_decodes():
    buffer = cv2.imencode(".jpg", SCENE)[1].reshape(-1)
    assert to_array(head("jpeg", "bgr8"), buffer).shape == SCENE.shape


@pytest.mark.parametrize(
    ("given", "buffer", "said"),
    [
        (head("raw", "mono8", 12, 17), flat(SCENE[..., 0]), "204 bytes"),
        (head("raw", "mono8", 0, 0), flat(SCENE[..., 0]), "0 bytes"),
        (head("raw", "yuv", 12, 16), flat(SCENE[..., 0]), "'yuv'"),
        (head("png"), flat(SCENE), "neither JPEG"),
        (head("raw", "mono8", 40, 40), np.zeros(1600, np.uint8), "limit is 1000 pixels"),
        (head("png"), cv2.imencode(".png", np.zeros((40, 40), np.uint8))[1].reshape(-1), "1000"),
    ],
)
def test_what_is_no_picture_is_bad_input(given, buffer, said):
    with pytest.raises(Uninspectable, match=said) as refused:
        to_array(given, buffer, 1000)
    assert refused.value.reason == "bad_input"
