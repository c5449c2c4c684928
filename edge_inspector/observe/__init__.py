"""Observe mode: units are judged beside the inspection that is already there, and nothing is driven."""
