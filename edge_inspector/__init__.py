"""Edge Inspector: a unit arrives, its regions are scored, one verdict leaves before the deadline."""

__version__ = "0.1.0"
