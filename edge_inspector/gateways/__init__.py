"""Verdicts to line controllers that speak a protocol of their own, each gateway in its own process."""
