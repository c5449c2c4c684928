import cv2
import numpy as np
import pytest


def unit(rng, defect=False, side=64):
    """A dark body with four bright balls that move a little; a defective unit lacks one."""
    picture = np.full((side, side), 40, np.float32)
    for index, (x, y) in enumerate([(18, 18), (46, 18), (18, 46), (46, 46)]):
        if defect and index == 3:
            continue
        dx, dy = rng.normal(0, 0.4, 2)
        centre = (round((x + dx) * 16), round((y + dy) * 16))
        cv2.circle(picture, centre, 6 * 16, 200, -1, cv2.LINE_AA, 4)
    picture += rng.normal(0, 2, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def units(tmp_path_factory):
    """A CSV of 48 good training units, 12 held out, and 8 defective ones."""
    folder = tmp_path_factory.mktemp("units")
    rng = np.random.default_rng(5)
    rows = ["path,label,split"]
    plan = [("good", "train", 48), ("good", "val", 12), ("missing", "test", 8)]
    for label, split, count in plan:
        for number in range(count):
            name = f"{split}{number}.png"
            cv2.imwrite(str(folder / name), unit(rng, defect=label == "missing"))
            rows.append(f"{name},{label},{split}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "data.csv"
