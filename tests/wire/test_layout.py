import struct

import cv2
import numpy as np
import pytest

from edge_inspector.errors import WireError
from edge_inspector.wire.layout import announced, encoded_layout, raw_layout


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("shape", [(7, 300), (300, 7, 3)])
def test_a_jpeg_says_its_size(shape, progressive):
    image = np.zeros(shape, np.uint8)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
    assert announced(jpeg) == ("jpeg", *shape[:2])


def test_a_jpeg_with_a_thumbnail_says_the_size_of_the_picture():
    jpeg = cv2.imencode(".jpg", np.zeros((40, 50), np.uint8))[1].tobytes()
    thumbnail = cv2.imencode(".jpg", np.zeros((4, 5), np.uint8))[1].tobytes()
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert announced(jpeg[:2] + segment + jpeg[2:]) == ("jpeg", 40, 50)


def test_a_jpeg_may_be_padded_with_zeros():
    jpeg = cv2.imencode(".jpg", np.zeros((40, 50), np.uint8))[1].tobytes()
    assert announced(jpeg + bytes(60)) == ("jpeg", 40, 50)


@pytest.mark.parametrize("cut", range(3, 340, 7))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_cut_image_is_refused(suffix, cut):
    image = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    whole = cv2.imencode(suffix, image)[1].tobytes()
    with pytest.raises(WireError):
        announced(whole[:cut])


def test_a_jpeg_of_endless_segments_is_given_up():
    with pytest.raises(WireError, match="no frame header"):
        announced(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 100_000)


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, 0)])
def test_an_image_without_pixels_is_refused(height, width):
    sof = b"\xff\xd8\xff\xc0" + struct.pack(">HBHH", 11, 8, height, width) + b"\xff\xd9"
    ihdr = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)
    for image in (sof, ihdr):
        with pytest.raises(WireError, match=f"{width} x {height}"):
            announced(image)


def test_pixel_formats_of_encoded_images_are_what_decoders_give():
    png = cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes()
    assert encoded_layout(png, "mono8", 100).pixel_format == "mono8"
    with pytest.raises(WireError, match="bayer_rg8"):
        encoded_layout(png, "bayer_rg8", 100)


def test_the_message_names_value_limit_and_remedy():
    with pytest.raises(WireError) as refused:
        raw_layout("uint8", [100, 100], None, 10_000, 9_999)
    assert "100 x 100" in str(refused.value)
    assert "9999" in str(refused.value)
    assert "frames.max_pixels" in str(refused.value)
