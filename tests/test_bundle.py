from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edge_inspector.bundle import open_engine, seal
from edge_inspector.errors import DocumentError, EngineCorrupt, Misuse
from edge_inspector.manifest import Quantised

FILES = ("manifest.toml", "model.onnx", "good.png", "bad.png", "figures.json")


def test_engine_opens_with_its_model_and_challenge_crops(tiny_engine: Path) -> None:
    engine = open_engine(tiny_engine)
    assert engine.title == "tiny/1"
    assert engine.model == (tiny_engine / "model.onnx").read_bytes()
    assert engine.digest == hashlib.sha256((tiny_engine / "manifest.toml").read_bytes()).hexdigest()
    assert engine.good.shape == engine.bad.shape == (32, 32, 1)
    assert engine.good.max() == 100
    assert engine.bad.max() == 200


def test_colour_engine_has_colour_challenge_crops(tmp_path: Path, make_engine) -> None:
    assert open_engine(make_engine(tmp_path / "e", channels=3)).bad.shape == (32, 32, 3)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("position", [0.0, 0.37, 0.5, 0.93, 1.0])
def test_flipped_bit_is_refused(tiny_engine: Path, name: str, position: float) -> None:
    path = tiny_engine / name
    raw = bytearray(path.read_bytes())
    raw[round(position * (len(raw) - 1))] ^= 0x04
    path.write_bytes(raw)
    with pytest.raises(EngineCorrupt, match=name):
        open_engine(tiny_engine)


@pytest.mark.parametrize("name", FILES)
def test_truncated_file_is_refused(tiny_engine: Path, name: str) -> None:
    path = tiny_engine / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EngineCorrupt, match=name):
        open_engine(tiny_engine)


@pytest.mark.parametrize("name", FILES[1:])
def test_missing_file_is_refused(tiny_engine: Path, name: str) -> None:
    (tiny_engine / name).unlink()
    with pytest.raises(EngineCorrupt, match=name):
        open_engine(tiny_engine)


def test_folder_without_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"manifest\.toml"):
        open_engine(tmp_path)


@pytest.mark.parametrize("name", ["extra.bin", ".hidden"])
def test_unlisted_file_is_refused(tiny_engine: Path, name: str) -> None:
    (tiny_engine / name).write_bytes(b"")
    with pytest.raises(EngineCorrupt, match=name):
        open_engine(tiny_engine)


def test_unlisted_folder_is_refused(tiny_engine: Path) -> None:
    (tiny_engine / "plans").mkdir()
    with pytest.raises(EngineCorrupt, match="plans"):
        open_engine(tiny_engine)


@pytest.mark.parametrize("name", FILES)
def test_link_is_refused_even_to_the_right_bytes(
    tiny_engine: Path, tmp_path: Path, name: str
) -> None:
    elsewhere = tmp_path / name
    (tiny_engine / name).rename(elsewhere)
    (tiny_engine / name).symlink_to(elsewhere)
    with pytest.raises(EngineCorrupt, match=f"{name}: is a link"):
        open_engine(tiny_engine)


def _listing(folder: Path, *changes: tuple[str, str]) -> None:
    """Rewrites the manifest's text and seals it anew, as a careless tool would."""
    path = folder / "manifest.toml"
    text = path.read_text().rpartition("# sealed")[0]
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(f"{text}# sealed, sha256 of the lines above: {digest}\n")


def test_listed_path_outside_the_folder_is_refused(tiny_engine: Path) -> None:
    _listing(tiny_engine, ('"figures.json"', '"../figures.json"'))
    with pytest.raises(EngineCorrupt, match=r"\.\./figures\.json"):
        open_engine(tiny_engine)


def test_model_that_is_not_listed_is_refused(tiny_engine: Path) -> None:
    _listing(tiny_engine, ('model = "model.onnx"', 'model = "other.onnx"'))
    with pytest.raises(EngineCorrupt, match=r"other\.onnx is not listed"):
        open_engine(tiny_engine)


def test_challenge_crop_of_another_size_is_refused(tiny_engine: Path) -> None:
    _listing(tiny_engine, ("height = 32", "height = 40"))
    with pytest.raises(EngineCorrupt, match="32x32 px, the engine takes 40x32"):
        open_engine(tiny_engine)


def test_sealed_manifest_with_unknown_key_is_refused_at_its_line(tiny_engine: Path) -> None:
    _listing(tiny_engine, ("seed = 0", "seeds = 0"))
    with pytest.raises(DocumentError, match="did you mean 'seed'"):
        open_engine(tiny_engine)


def test_version_is_never_overwritten(tiny_engine: Path) -> None:
    before = (tiny_engine / "manifest.toml").read_bytes()
    with pytest.raises(Misuse, match="next version"):
        seal(tiny_engine, open_engine(tiny_engine).manifest)
    assert (tiny_engine / "manifest.toml").read_bytes() == before


def test_sealing_without_the_model_is_refused(tiny_engine: Path) -> None:
    manifest = open_engine(tiny_engine).manifest
    for name in ("manifest.toml", "model.onnx"):
        (tiny_engine / name).unlink()
    with pytest.raises(EngineCorrupt, match=r"model\.onnx"):
        seal(tiny_engine, manifest)
    assert not (tiny_engine / "manifest.toml").exists()


def _with_int8(folder: Path) -> Quantised:
    """Seal the tiny engine again with a second graph."""
    manifest = open_engine(folder).manifest
    quantised = Quantised(
        quantiser="by hand",
        calibration_crops=8,
        validation_crops=20,
        defects="known",
        recall_float32=0.9,
        recall_int8=0.899,
        good_score=0.001,
        bad_score=0.03,
        tolerance=0.01,
    )
    (folder / "model.int8.onnx").write_bytes(b"eight bits")
    (folder / "manifest.toml").unlink()
    seal(folder, manifest.model_copy(update={"int8": quantised}))
    return quantised


def test_engine_without_int8_has_its_float32_graph_alone(tiny_engine: Path) -> None:
    engine = open_engine(tiny_engine)
    assert engine.manifest.int8 is None
    assert dict(engine.models) == {"float32": engine.model}


def test_engine_with_int8_has_both_graphs_and_the_gate_it_passed(tiny_engine: Path) -> None:
    quantised = _with_int8(tiny_engine)
    engine = open_engine(tiny_engine)
    assert engine.manifest.int8 == quantised
    assert list(engine.models) == ["float32", "int8"]
    assert engine.models["int8"] == b"eight bits"
    assert engine.model == (tiny_engine / "model.onnx").read_bytes()


def test_changed_int8_graph_is_refused(tiny_engine: Path) -> None:
    _with_int8(tiny_engine)
    (tiny_engine / "model.int8.onnx").write_bytes(b"eight bitz")
    with pytest.raises(EngineCorrupt, match=r"model\.int8\.onnx: sha256"):
        open_engine(tiny_engine)


def test_int8_graph_that_is_not_listed_is_refused(tiny_engine: Path) -> None:
    _with_int8(tiny_engine)
    _listing(tiny_engine, ('model = "model.int8.onnx"', 'model = "other.onnx"'))
    with pytest.raises(EngineCorrupt, match=r"other\.onnx is not listed"):
        open_engine(tiny_engine)
