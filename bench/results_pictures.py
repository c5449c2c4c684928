"""
Pictures for a person to look at, into the ignored `results/pictures/`, and the map of latents.

Of every scored row with its engine: crops, reconstructions where training left its state
(`--keep-state`), and anomaly maps. The t-SNE of latent means has no pixels and goes to the page.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn.manifold import TSNE  # type: ignore[import-untyped]

from bench.results_page import page_of
from bench.results_plots import save_figure
from edge_inspector import importer
from edge_inspector.backends import open_first
from edge_inspector.bundle import open_engine
from edge_inspector.models import ANOMALY_MODELS
from edge_inspector.models.autoencoder import Autoencoder
from edge_inspector.studies.dataset import Item, is_good, load_crop, read_items
from edge_inspector.training.checkpoint import FILE, load, part_of

OUT = Path("results/pictures")
ZOOM = 256
TSNE_ROW = ("solder", "min32", "beta-VAE, Recon")


def write_pictures(spec: dict[str, Any], results: Sequence[dict[str, Any]]) -> None:
    """Draw all that can be drawn; paths are relative to the repository."""
    torch.set_num_threads(1)
    for result, folder, items in engines_of(results):
        write_sheet(result, _sheet(folder, items))
        if (result["table"], result["data"], result["row"]) == TSNE_ROW:
            _latents(folder, items, page_of(spec).with_suffix("") / "solder-latents")


def engines_of(
    results: Sequence[dict[str, Any]],
) -> Iterator[tuple[dict[str, Any], Path, list[Item]]]:
    """Each first-seed result whose engine is still here, with the engine and its images."""
    for result in results:
        words = shlex.split(result["commands"][-1])
        folder = Path(words[2])
        if result["seed"] == 0 and (folder / "manifest.toml").is_file():
            yield result, folder, read_items(Path(words[words.index("--data") + 1]))


def write_sheet(result: dict[str, Any], picture: np.ndarray) -> None:
    """Keep a row's picture under the row's name."""
    OUT.mkdir(parents=True, exist_ok=True)
    row = (result["table"], result["data"], result["row"])
    name = re.sub(r"[^a-z0-9.]+", "-", " ".join(row).lower())
    cv2.imwrite(str(OUT / f"{name}.png"), picture)


def network_of(folder: Path) -> Autoencoder | None:
    """The network behind an engine, from the state that its training left."""
    engine = open_engine(folder)
    state = next((s for f in (folder, folder.parent) if (s := load(part_of(f) / FILE))), None)
    if state is None:
        return None
    shape = engine.manifest.input
    network: Autoencoder = importer.choose(ANOMALY_MODELS, engine.manifest.architecture, "model")(
        shape.height,
        shape.width,
        shape.channels,
        standardise="standardise True" in state["identity"],
    )
    network.load_state_dict(state["state"]["plateau"]["state"])
    return network.eval()


def chosen(items: list[Item]) -> list[Item]:
    """Two good test images and one of every class."""
    tested = [item for item in items if item.split == "test"]
    good = [item for item in tested if is_good(item.label)][:2]
    labels = sorted({item.label for item in tested if not is_good(item.label)})
    return good + [next(item for item in tested if item.label == label) for label in labels]


def _sheet(folder: Path, items: list[Item]) -> np.ndarray:
    """A column an image: as it is, reconstructed, and the anomaly map."""
    engine, network = open_engine(folder), network_of(folder)
    shown = chosen(items)
    crops = np.stack([load_crop(item.path, engine.manifest.input) for item in shown])
    _, session = open_first(("onnxruntime",), engine.model, 1)
    maps = session.run(crops)["anomaly_map"]
    session.close()
    rows = [[labelled(grey(c), i.label) for c, i in zip(crops, shown, strict=True)]]
    if network is not None:
        rows.append([grey(picture) for picture in _reconstructed(network, crops)])
    rows.append([cv2.applyColorMap(large(m), cv2.COLORMAP_INFERNO) for m in maps])
    return np.vstack([np.hstack(row) for row in rows])


def _reconstructed(network: Autoencoder, crops: np.ndarray) -> list[np.ndarray]:
    """First plane, or the planes of a space-to-depth put back, each stretched to 0..255."""
    with torch.no_grad():
        decoded = network.reconstruct(network.prepare(torch.from_numpy(crops)))
    step = round(crops.shape[1] / decoded.shape[2])
    planes = decoded[:, : step * step * crops.shape[3] : crops.shape[3]]
    whole = torch.pixel_shuffle(planes, step)[:, 0].numpy()
    low, high = np.quantile(whole, [0.001, 0.999])
    return list(np.clip((whole - low) / (high - low) * 255, 0, 255).astype(np.uint8))


def _latents(folder: Path, items: list[Item], path: Path) -> None:
    """t-SNE of the latent means of the test images, a colour a class."""
    network = network_of(folder)
    if network is None:
        return
    shape = open_engine(folder).manifest.input
    tested = [item for item in items if item.split == "test"]
    crops = torch.from_numpy(np.stack([load_crop(item.path, shape) for item in tested]))
    with torch.no_grad():
        means = [network.encode(network.prepare(c))[0].flatten(1) for c in torch.split(crops, 32)]
    places = TSNE(random_state=0, perplexity=30).fit_transform(torch.cat(means).numpy())
    labels = np.array([item.label for item in tested])
    figure, axis = plt.subplots(figsize=(5, 4), layout="constrained")
    for label in sorted(set(labels), key=lambda name: (not is_good(name), name)):
        x, y = places[labels == label].T
        axis.scatter(x, y, s=6, label=label)
    axis.set(title="beta-VAE on min32, test images: t-SNE of latent means", xticks=[], yticks=[])
    axis.legend(fontsize=6)
    save_figure(figure, path)


def grey(pixels: np.ndarray) -> Any:
    """Large enough to be looked at, in BGR."""
    return cv2.cvtColor(large(pixels), cv2.COLOR_GRAY2BGR) if _flat(pixels) else large(pixels)


def _flat(pixels: np.ndarray) -> bool:
    return pixels.ndim == 2 or pixels.shape[2] == 1


def large(pixels: np.ndarray) -> Any:
    """Scaled to `ZOOM`, its pixels to be seen."""
    return cv2.resize(pixels, (ZOOM, ZOOM), interpolation=cv2.INTER_NEAREST)


def labelled(picture: Any, text: str) -> Any:
    """With a word in the corner."""
    cv2.putText(picture, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (80, 200, 255), 1)
    return picture
