"""The probe asks a stand-in of the driver's library, compiled here; that shows nothing of a GPU."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edge_inspector.backends import driver
from edge_inspector.backends.driver import probe
from edge_inspector.errors import BackendMissing

SOURCE = """
#include <string.h>
#ifndef INIT
#define INIT 0
#endif
#ifndef COUNT
#define COUNT 1
#endif
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 40 + ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, device == 40 ? "Orin (stand-in)" : "other", length);
    return 0;
}
#ifndef OLD
int cuDeviceGetUuid(char *uuid, int device) { memset(uuid, 0xab, 16); return 0; }
#endif
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
        case 16: *value = 14; return 0;  /* multiprocessors */
        case 18: *value = 1; return 0;   /* integrated */
        case 75: *value = 8; return 0;   /* capability, major */
        case 76: *value = 7; return 0;   /* and minor */
    }
    return 1;
}
"""
needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None, reason="no C compiler; tests/setup_c.sh installs one"
)


@pytest.fixture
def stand_in(tmp_path: Path):
    """Compiles the stand-in with these macros; the library's path."""

    def make(*macros: str) -> str:
        source, library = tmp_path / "cuda.c", tmp_path / "libcuda.so.1"
        source.write_text(SOURCE)
        flags = [f"-D{macro}" for macro in macros]
        subprocess.run(["cc", "-shared", "-fPIC", *flags, source, "-o", library], check=True)
        return str(library)

    return make


@needs_compiler
def test_a_device_is_described_as_the_driver_does(stand_in, tmp_path, monkeypatch) -> None:
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23\n")
    monkeypatch.setattr(driver, "MODULE_VERSION", version)
    found = probe(library=stand_in())
    assert found.name == "Orin (stand-in)"
    assert found.compute_capability == (8, 7)
    assert found.multiprocessors == 14
    assert found.cuda == (12, 6)
    assert found.driver == "580.95.05"
    assert found.integrated
    assert found.uuid == "ab" * 16


@needs_compiler
def test_a_system_that_names_no_kernel_module_is_probed_all_the_same(
    stand_in, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(driver, "MODULE_VERSION", tmp_path / "absent")
    assert probe(library=stand_in()).driver == ""


@needs_compiler
@pytest.mark.parametrize(
    ("macros", "words"),
    [
        (["INIT=100"], r"finds no CUDA device \(CUDA error 100 of cuInit\); check nvidia-smi"),
        (["INIT=35"], r"older than its CUDA library \(CUDA error 35 .*install a newer NVIDIA"),
        (["INIT=803"], r"do not fit each other \(CUDA error 803 .*; restart the box"),
        (["INIT=804"], r"newer than this GPU's driver allows \(CUDA error 804"),
        (["INIT=999"], r"cuInit of the driver fails with error 999"),
        (["COUNT=0"], r"the driver finds 0 CUDA devices, number 0 is asked for; check nvidia-smi"),
        (["OLD"], r"older than its CUDA library .* of cuDeviceGetUuid\); install a newer"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_its_remedy(stand_in, macros, words) -> None:
    with pytest.raises(BackendMissing, match=words) as error:
        probe(library=stand_in(*macros))
    assert "\n" not in str(error.value)


@needs_compiler
def test_the_second_device_is_asked_for_by_its_number(stand_in) -> None:
    assert probe(1, stand_in("COUNT=2")).name == "other"


def test_without_a_driver_the_sentence_names_the_library() -> None:
    with pytest.raises(BackendMissing, match=r"no NVIDIA driver: libno-such\.so\.1: .*install one"):
        probe(library="libno-such.so.1")
