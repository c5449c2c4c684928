"""
Cuts every region of a recipe out of images, as PNG files: what an engine for them is taught on.

    python bench/cut_regions.py recipe.toml frames/*_temp.jpg --out cells/train/good
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2

from edge_inspector.align import open_alignment
from edge_inspector.crops import cut, expand
from edge_inspector.recipe import load_recipe
from edge_inspector.studies.dataset import read_image


def main() -> int:
    """Write `<image>-<region>.png` for each; the number of files is printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    recipe = load_recipe(args.recipe)
    rois = expand(recipe)
    aligner = open_alignment(recipe.alignment.get(recipe.cameras[0]))
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.images:
        pixels = read_image(path)
        pose = aligner.find(pixels)
        for roi in rois:
            (crop,) = cut(pixels, pose, [roi], (roi.box[3], roi.box[2], 1))
            cv2.imwrite(str(args.out / f"{path.stem}-{roi.name}.png"), crop.pixels)
    print(f"{len(args.images) * len(rois)} crops in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
