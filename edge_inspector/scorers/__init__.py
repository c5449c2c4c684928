"""Crops to evidence: what comes out of an engine's graph, as scores of the records."""
