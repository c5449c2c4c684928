"""The durable log of verdicts: committed before it is published, one verdict per unit."""

from edge_inspector.outbox.log import Log, Verified
from edge_inspector.outbox.outbox import Outbox, measure_sync, percentiles

__all__ = ["Log", "Outbox", "Verified", "measure_sync", "percentiles"]
