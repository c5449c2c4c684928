"""Encoder and decoder against the frozen vectors, byte for byte."""

import pytest

from edge_inspector.wire import assured, codes
from edge_inspector.wire.codes import Type, Why
from tests.golden import make_wire1, vectors

PRINTED = """
45495031 01001004 0c000000 20000000 00010203 04050607 08090a0b 0c0d0e0f 01000000 00000000 e9030000
00000000 15cd5b07 00000000 00002a36 fe9c9717 a0860100 08000400 00000100 01000100 527da634 e2eb42f7
00000000 01b814fd
"""
"""The header of FRAME as the protocol's document prints it."""
GOOD = [name for name in vectors.names("assured") if "header" in vectors.said(name)]


def metadata_of(kind, key):
    """What a key says in each vector of a type, without those that do not say it."""
    said = [vectors.said(name) for name in GOOD]
    found = {one["metadata"].get(key) for one in said if one["header"]["type"] == kind.name}
    return found - {None}


def header_of(kind, key):
    said = [vectors.said(name)["header"] for name in GOOD]
    return {header[key] for header in said if header["type"] == kind.name}


@pytest.mark.parametrize("name", vectors.names())
def test_a_vector_is_encoded_byte_for_byte(name):
    assert vectors.encode(vectors.said(name)) == vectors.parts(name)


@pytest.mark.parametrize("name", vectors.names())
def test_a_vector_is_decoded_to_what_it_says(name):
    said = vectors.said(name)
    decoded = vectors.decode(said, vectors.parts(name))
    assert decoded == {key: said.get(key) for key in decoded}


@pytest.mark.parametrize("name", vectors.names())
def test_only_the_broken_ones_are_refused(name):
    assert ("refusal" in vectors.said(name)) == name.startswith("broken_")


@pytest.mark.parametrize("name", GOOD)
def test_a_memoryview_reads_as_bytes_do(name):
    views = [memoryview(part) for part in vectors.parts(name)]
    assert assured.read(assured.split(views)) == assured.read(assured.split(vectors.parts(name)))


def test_the_printed_frame_is_among_them():
    header, metadata, payload = vectors.parts("frame")
    assert header == bytes.fromhex(PRINTED)
    assert metadata == bytes.fromhex("81a7756e69745f6964a24131")
    assert payload == bytes(range(16)) * 2


def test_every_file_has_its_other_half():
    suffixes = {".bin", ".json"}
    stems = [{path.stem for path in vectors.FOLDER.iterdir() if path.suffix == s} for s in suffixes]
    assert stems[0] == stems[1]
    assert len(stems[0]) > 100


def test_every_type_has_a_vector():
    assert {vectors.said(name)["header"]["type"] for name in GOOD} == {kind.name for kind in Type}


@pytest.mark.parametrize("kind", [Type.VERDICT, Type.SETTLED])
def test_every_outcome_code_has_a_vector(kind):
    assert header_of(kind, "code") == set(codes.CODES.values())


def test_every_refusal_and_every_tombstone_has_a_vector():
    assert metadata_of(Type.NACK, "why") == {why.value for why in Why}
    assert metadata_of(Type.FRAME, "why") == set(codes.TOMBSTONES)


def test_two_chunks_make_one_frame():
    chunks = [assured.split(vectors.parts(f"frame_chunk_{number}")) for number in (1, 2)]
    whole = assured.split(vectors.parts("frame"))
    assert b"".join(chunk.payload for chunk in chunks) == whole.payload
    assert [chunk.header.offset for chunk in chunks] == [0, len(chunks[0].payload)]
    assert {chunk.header.digest for chunk in chunks} == {whole.header.digest}


def test_a_frozen_vector_is_not_written_again(tmp_path):
    text = (vectors.FOLDER / "ping.json").read_text()
    (tmp_path / "ping.json").write_text(text)
    make_wire1.main([], tmp_path)
    assert (tmp_path / "ping.bin").read_bytes() == (vectors.FOLDER / "ping.bin").read_bytes()
    (tmp_path / "ping.json").write_text(text.replace('"seq": 3', '"seq": 4'))
    make_wire1.main([], tmp_path)
    with pytest.raises(FileExistsError, match="frozen"):
        make_wire1.main(["ping"], tmp_path)
    assert (tmp_path / "ping.bin").read_bytes() == (vectors.FOLDER / "ping.bin").read_bytes()
