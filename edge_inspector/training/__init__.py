"""One training loop per file, export, and image loading for training."""
