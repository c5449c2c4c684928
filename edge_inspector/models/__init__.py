"""The networks, one a file, and what turns their reconstruction into evidence."""

from __future__ import annotations

ANOMALY_MODELS = {
    "vae": "edge_inspector.models.vae:Vae",
    "lean": "edge_inspector.models.lean:Lean",
    "solder-vae": "edge_inspector.models.solder:SolderVae",
    "beta-vae": "edge_inspector.models.solder:BetaVae",
    "cae": "edge_inspector.models.solder:Cae",
}
"""Each takes (height, width, channels, standardise=) and is an `autoencoder.Autoencoder`."""
