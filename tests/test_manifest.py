import pytest

from edge_inspector.errors import DocumentError
from edge_inspector.manifest import load_manifest

SHA = "0" * 64
MANIFEST = f"""\
name = "bga"
version = 1
kind = "anomaly"
architecture = "vae"
score = "residual"
opset = 17
outputs = ["score", "anomaly_map"]
training_data_sha256 = "{SHA}"
seed = 1
created_utc = "2026-01-01T00:00:00Z"
[input]
height = 64
width = 64
[challenge]
good = "good.png"
bad = "bad.png"
good_score = 0.1
bad_score = 0.9
tolerance = 0.001
[statistics]
count = 10
median = 0.1
spread = 0.01
p99 = 0.2
maximum = 0.3
[files."model.onnx"]
sha256 = "{SHA}"
bytes = 10
"""


def test_a_manifest_is_read_from_the_engine_folder(tmp_path):
    (tmp_path / "manifest.toml").write_text(MANIFEST)
    manifest = load_manifest(tmp_path)
    assert (manifest.input.height, manifest.input.channels) == (64, 1)
    assert manifest.files["model.onnx"].bytes == 10


def test_an_engine_folder_without_a_manifest_is_named(tmp_path):
    with pytest.raises(DocumentError, match=r"manifest\.toml: there is no such file"):
        load_manifest(tmp_path)


def test_a_short_hash_is_refused_at_its_line(tmp_path):
    text = MANIFEST.replace(f'sha256 = "{SHA}"\nbytes', 'sha256 = "00"\nbytes')
    (tmp_path / "manifest.toml").write_text(text)
    with pytest.raises(DocumentError) as caught:
        load_manifest(tmp_path)
    assert caught.value.line == text.splitlines().index('sha256 = "00"') + 1
    assert "'files.model.onnx.sha256'" in caught.value.problem


def test_a_threshold_has_no_place_in_a_manifest(tmp_path):
    (tmp_path / "manifest.toml").write_text("threshold = 0.5\n" + MANIFEST)
    with pytest.raises(DocumentError, match=r":1: unknown key 'threshold'"):
        load_manifest(tmp_path)
