"""What the tests of the simulator measure on pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest

POSTER = Path(__file__).resolve().parents[2] / "../shared/data/bga_poster"


def find_balls(pixels):
    """Areas (n,) and centres (n, 2) of round, bright spots, found by connected components."""
    _, bright = cv2.threshold(pixels, 150, 255, cv2.THRESH_BINARY)
    _, _, stats, centres = cv2.connectedComponentsWithStats(bright)
    area, square = stats[:, 4], np.abs(stats[:, 2] - stats[:, 3]) <= 3
    pin_1 = (centres < (39, 22)).all(1)
    kept = square & ~pin_1 & (area > 8) & (area < 300)
    return area[kept], centres[kept]


@pytest.fixture(scope="session")
def poster():
    """The photograph of a good unit that the BGA paper prints, grey."""
    path = POSTER / "good.jpg"
    if not path.is_file():
        pytest.skip(f"{path.name} of the BGA poster is not there: no photograph to compare with")
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
