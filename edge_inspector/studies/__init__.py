"""Evaluation, calibration and comparison through the same pipeline as the line; no torch."""
