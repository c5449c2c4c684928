"""A package renderer, defect synthesis and a line player: test images without a camera."""
