"""Reads, writes, encodes and decodes the golden vectors; wire1/README.md says what is in them."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagezmq
import msgspec
import numpy as np
import zmq

from edge_inspector.errors import WireError
from edge_inspector.records import Committed, Verdict
from edge_inspector.wire import assured, codes, plain, telemetry
from edge_inspector.wire.codes import Flag, Type
from edge_inspector.wire.header import Header

FOLDER = Path(__file__).parent / "wire1"
RULES = plain.Rules(
    camera="main",
    recipe="board",
    cameras=frozenset({"main", "side"}),
    recipes=frozenset({"board", "plate"}),
    max_bytes=100_000,
    max_pixels=10_000,
)
ALIASES = {
    "budget_us": "latency_us",
    "width": "defect_class",
    "height": "detail",
    "stride_16": "roi_count",
    "pixel_format": "code",
    "codec": "complement",
    "camera": "station",
    "offset": "chain",
}
"""Header field -> what stands at its place in VERDICT and SETTLED."""
Said = dict[str, Any]


def names(tier: str = "", folder: Path = FOLDER) -> list[str]:
    """Every vector, or those of one tier."""
    found = sorted(path.stem for path in folder.glob("*.json"))
    return [name for name in found if not tier or said(name, folder)["tier"] == tier]


def said(name: str, folder: Path = FOLDER) -> Said:
    """What the .json says."""
    value: Said = json.loads((folder / f"{name}.json").read_text())
    return value


def parts(name: str) -> list[bytes]:
    """The message in the .bin."""
    return unframed((FOLDER / f"{name}.bin").read_bytes())


def framed(message: Sequence[plain.Part]) -> bytes:
    """Each part behind its length, u32 little endian."""
    return b"".join(struct.pack("<I", len(part)) + part for part in message)


def unframed(raw: bytes) -> list[bytes]:
    """The parts of one message."""
    found = []
    while raw:
        size = struct.unpack_from("<I", raw)[0]
        found.append(raw[4 : 4 + size])
        assert len(found[-1]) == size, "the file was cut"
        raw = raw[4 + size :]
    return found


def plainly(value: object) -> Any:
    """A record as JSON has it."""
    return msgspec.json.decode(msgspec.json.encode(value))


def as_of(value: Any, then: Any) -> Any:
    """What was said when a vector was frozen: the keys, or first places, that it has."""
    if isinstance(value, dict) and isinstance(then, dict):
        return {key: as_of(found, then[key]) for key, found in value.items() if key in then}
    if isinstance(value, list) and isinstance(then, list):
        same = [as_of(found, said) for found, said in zip(value, then, strict=False)]
        return same if _is_record(value) else same + value[len(then) :]
    return value


def _is_record(value: list[Any]) -> bool:
    """Whether a list is one region, whose places have names, and not a list of like things."""
    return len(value) > 2 and isinstance(value[0], str) and not isinstance(value[2], str)


def header_said(header: Header) -> Said:
    """A header by the names of its fields."""
    fields = msgspec.structs.asdict(header) | {
        "type": Type(header.type).name,
        "flags": [flag.name for flag in Flag if header.has(flag)],
        "epoch": header.epoch.hex(),
        "digest": f"{header.digest:016x}",
    }
    renamed = ALIASES if header.type in (Type.VERDICT, Type.SETTLED) else {}
    return {renamed.get(name, name): value for name, value in fields.items()}


def header_of(fields: Said) -> Header:
    """The header that a .json names."""
    back = {alias: name for name, alias in ALIASES.items()}
    if fields["type"] not in ("VERDICT", "SETTLED"):
        back = {}
    values = {back.get(name, name): value for name, value in fields.items()} | {
        "type": Type[fields["type"]],
        "flags": sum(Flag[name] for name in fields["flags"]),
        "epoch": bytes.fromhex(fields["epoch"]),
        "digest": int(fields["digest"], 16),
    }
    return Header(**values)


def encode(vector: Said) -> list[bytes]:
    """The parts that our encoders, or the publisher's own, make of a .json."""
    if "base" in vector:
        return edited(encode(said(vector["base"])), vector["edits"])
    encoders = {"assured": _assured, "plain": _plain, "telemetry": _telemetry}
    return [bytes(part) for part in encoders[vector["tier"]](vector)]


def edited(message: list[bytes], edits: list[Said]) -> list[bytes]:
    """A message made wrong, step by step."""
    for edit in edits:
        if "keep" in edit:
            message = message[: edit["keep"]]
        elif "add" in edit:
            message = [*message, bytes.fromhex(edit["add"])]
        elif "whole" in edit:
            message[edit["part"]] = bytes.fromhex(edit["whole"]) * edit.get("times", 1)
        elif "cut" in edit:
            message[edit["part"]] = message[edit["part"]][: edit["cut"]]
        elif "put" in edit:
            at, put = edit["at"], bytes.fromhex(edit["put"])
            part = message[edit["part"]]
            message[edit["part"]] = part[:at] + put + part[at + len(put) :]
        elif edit.get("seal"):
            message[0] = sealed(message[0])
    return message


def sealed(header: bytes) -> bytes:
    """A header with the CRC that its bytes ask for."""
    return header[:92] + struct.pack("<I", zlib.crc32(header[:92]))


def decode(vector: Said, message: Sequence[bytes]) -> Said:
    """What our decoders make of the parts, in the words of the .json."""
    decoders = {"assured": _read_assured, "plain": _read_plain, "telemetry": _read_telemetry}
    return decoders[vector["tier"]](vector, message)


def _assured(vector: Said) -> list[assured.Part]:
    header = header_of(vector["header"])
    if vector["metadata"] is None:
        return assured.assemble(header, b"")[:1]
    metadata = msgspec.convert(vector["metadata"], assured.KINDS[Type(header.type)])
    if header.type == Type.VERDICT:  # travels as the bytes that were stored, whoever reads them
        then = as_of(plainly(metadata), vector["metadata"])
        return assured.assemble(header, msgspec.msgpack.encode(then))
    return assured.build(metadata, header, bytes.fromhex(vector["payload"]))


def _read_assured(vector: Said, message: Sequence[bytes]) -> Said:
    step = "split"
    try:
        split = assured.split(message)
        step = "read"
        metadata = assured.read(split)
        header = split.header
        if header.type in (Type.VERDICT, Type.SETTLED):
            step = "outcome_of"
            codes.outcome_of(header.code, header.complement)
        if header.type == Type.VERDICT:
            step = "verify_verdict"
            assured.verify_verdict(split, vector.get("previous_chain"))
    except WireError as error:
        why = error.why.value if isinstance(error, codes.Refusal) else None
        return {"refusal": {"step": step, "why": why}}
    return {
        "header": header_said(header),
        "metadata": None
        if len(message) == 1
        else as_of(plainly(metadata), vector.get("metadata", {})),
        "payload": split.payload.hex(),
    }


def _plain(vector: Said) -> list[plain.Part]:
    topic = [] if vector["topic"] is None else [vector["topic"].encode()]
    metadata, body = vector["metadata"], bytes.fromhex(vector["pixels"])
    if vector["sent_by"] == "edge_inspector":
        keys = {k: v for k, v in metadata.items() if k not in ("dtype", "shape")}
        array = np.frombuffer(body, metadata["dtype"]).reshape(metadata["shape"])
        return [*topic, *plain.encode(array, **keys)]
    return [*topic, *_as_published(vector["sent_by"], metadata, body)]


def _as_published(sender: str, metadata: Said, body: bytes) -> list[bytes]:
    """What imagezmq 1.2, or the recipe of pyzmq's documentation, puts on the wire."""
    with imagezmq.imagezmq.SerializingContext() as context:
        here, there = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        with here, there:
            here.bind("inproc://golden")
            there.connect("inproc://golden")
            array = np.frombuffer(body, metadata.get("dtype", "uint8"))
            array = array.reshape(metadata.get("shape", -1))
            if sender == "imagezmq" and "dtype" in metadata:
                here.send_array(array, metadata["msg"])
            elif sender == "imagezmq":
                here.send_jpg(metadata["msg"], body)
            else:
                here.send_json(metadata, zmq.SNDMORE)
                here.send(array)
            found: list[bytes] = there.recv_multipart()
            return found


def _read_plain(vector: Said, message: Sequence[bytes]) -> Said:
    try:
        frame = plain.decode(message, RULES)
    except plain.BadFrame as error:
        known = {"identity": _identity(error.identity)}
        return {"refusal": {"step": "decode", "why": "bad_input"}, "gives": known}
    gives = {
        "identity": _identity(frame.identity),
        "camera": frame.camera,
        "recipe": frame.recipe,
        "layout": plainly(frame.layout),
    }
    return {"pixels": frame.pixels.hex(), "gives": gives}


def _identity(identity: plain.Identity) -> Said:
    """The vectors are older than lots."""
    said = plainly(identity)
    assert isinstance(said, dict)
    return {key: value for key, value in said.items() if key != "lot" or value}


def _telemetry(vector: Said) -> tuple[bytes, bytes]:
    given = vector["given"]
    if "state" in given:
        return telemetry.encode_state(given["station"], given["head_vseq"], given["state"])
    verdict = msgspec.convert(given["verdict"], Verdict)
    row = Committed(
        vseq=verdict.vseq,
        verdict=verdict,
        body=b"",
        chain=0,
        committed_ns=given["committed_ns"],
    )
    topic, body = telemetry.encode(row)
    return topic, msgspec.json.encode(as_of(msgspec.json.decode(body), vector["gives"]))


def _read_telemetry(vector: Said, message: Sequence[bytes]) -> Said:
    try:
        return {"gives": as_of(plainly(telemetry.decode(message)), vector.get("gives", {}))}
    except WireError:
        return {"refusal": {"step": "decode", "why": None}}
