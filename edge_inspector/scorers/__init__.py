"""Crops to anomaly scores and to class probabilities."""
