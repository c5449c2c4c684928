import cv2
import numpy as np
import pytest


def unit(rng, defect=False, side=64, near=18, radius=6):
    """A dark body with four bright balls that move a little; a defective unit lacks one."""
    picture = np.full((side, side), 40, np.float32)
    far = side - near
    for index, (x, y) in enumerate([(near, near), (far, near), (near, far), (far, far)]):
        if defect and index == 3:
            continue
        dx, dy = rng.normal(0, 0.4, 2)
        centre = (round((x + dx) * 16), round((y + dy) * 16))
        cv2.circle(picture, centre, radius * 16, 200, -1, cv2.LINE_AA, 4)
    picture += rng.normal(0, 2, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def written(folder, plan):
    """A CSV of units; `plan` has label, split, count, and how many of them lack a ball."""
    rng = np.random.default_rng(5)
    rows = ["path,label,split"]
    for label, split, count, defective in plan:
        for number in range(count):
            name = f"{label}-{split}{number}.png"
            cv2.imwrite(str(folder / name), unit(rng, defect=number < defective))
            rows.append(f"{name},{label},{split}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "data.csv"


@pytest.fixture(scope="session")
def units(tmp_path_factory):
    """A CSV of 48 good training units, 12 held out, and 8 defective ones."""
    plan = [("good", "train", 48, 0), ("good", "val", 12, 0), ("missing", "test", 8, 8)]
    return written(tmp_path_factory.mktemp("units"), plan)


@pytest.fixture(scope="session")
def spoiled(tmp_path_factory):
    """A CSV of 200 training units that are all said to be good; the first six lack a ball."""
    plan = [
        ("good", "train", 200, 6),
        ("good", "val", 40, 0),
        ("good", "test", 60, 0),
        ("missing", "test", 30, 30),
    ]
    return written(tmp_path_factory.mktemp("spoiled"), plan)
