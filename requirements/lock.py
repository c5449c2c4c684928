"""
Writes line.txt, test.txt and dev.txt: the exact versions that `make` installs.

Resolves the ranges of pyproject.toml in fresh environments: `lock.py NEWER OLDER`, OLDER being
Python 3.10. Markers tell the two apart where the older one needs another version; torch and the
other tools of dev.txt are for NEWER only.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS = {
    "line": ["-e", "."],
    "test": ["-e", ".[ort]", "--group", "test"],
    "dev": ["-e", ".[train,ort]", "--group", "dev"],
}
WHEELS = {
    "atheris": 'python_version >= "3.11" and python_version < "3.14"'
    ' and sys_platform == "linux" and platform_machine == "x86_64"'
}
"""Tools that cannot be built everywhere, and where they can be installed, as in pyproject.toml."""
HEADER = "# Written by `make lock` from the ranges in pyproject.toml; do not edit.\n"
Pins = dict[str, str]


def main(newer: str, older: str) -> None:
    """Resolve with both interpreters and write the files beside this one."""
    new, old = resolve(newer, list(STEPS)), resolve(older, ["line", "test"])
    old["dev"] = old["test"] | {n: v for n, v in new["dev"].items() if n not in new["test"]}
    for step, below in (("line", None), ("test", "line"), ("dev", "test")):
        added_new, added_old = added(new, step, below), added(old, step, below)
        names = sorted({*added_new, *added_old}, key=str.lower)
        lines = [line for name in names for line in pin(name, added_new, added_old)]
        text = HEADER + (f"-r {below}.txt\n" if below else "") + "".join(lines)
        (ROOT / "requirements" / f"{step}.txt").write_text(text)


def added(found: dict[str, Pins], step: str, below: str | None) -> Pins:
    """What a step installs that the one below it did not."""
    present = found[below] if below else {}
    return {name: version for name, version in found[step].items() if name not in present}


def resolve(python: str, steps: list[str]) -> dict[str, Pins]:
    """The versions present after each step in a fresh environment."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip"]
        subprocess.run([*pip, "install", "-q", "-U", "pip"], check=True)
        found = {}
        for step in steps:
            subprocess.run([*pip, "install", "-q", *STEPS[step]], check=True, cwd=ROOT)
            freeze = [*pip, "freeze", "--exclude-editable"]
            text = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout
            pins = [line.partition("==") for line in text.splitlines() if "==" in line]
            found[step] = {name: version.partition("+")[0] for name, _, version in pins}
    return found


def pin(name: str, new: Pins, old: Pins) -> list[str]:
    """The line of one package, or one line for each interpreter."""
    newer, older = new.get(name), old.get(name)
    if name in WHEELS:
        return [f"{name}=={newer} ; {WHEELS[name]}\n"]
    if newer == older:
        return [f"{name}=={newer}\n"]
    lines = [f'{name}=={newer} ; python_version >= "3.11"\n'] if newer else []
    return lines + ([f'{name}=={older} ; python_version < "3.11"\n'] if older else [])


if __name__ == "__main__":
    main(*sys.argv[1:])
