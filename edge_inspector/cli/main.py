"""`edge-inspector VERB …`: finds the verb, imports it alone, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from edge_inspector import __version__, importer
from edge_inspector.errors import Breakage, EdgeInspectorError, Misuse

VERBS: dict[str, tuple[str, str]] = {
    "demo": ("edge_inspector.cli.demo", "a simulated line, the daemon and a controller, live"),
    "run": ("edge_inspector.cli.run", "the daemon of a station"),
    "check": ("edge_inspector.cli.check", "says what is wrong with a station before the line does"),
    "probe": ("edge_inspector.cli.probe", "what comes from a publisher, camera or folder"),
    "record": ("edge_inspector.cli.record", "frames of a station into a data folder"),
    "simulate": ("edge_inspector.cli.simulate", "publishes frames of a simulated line"),
    "plc-sim": ("edge_inspector.cli.plc_sim", "a simulated controller on the Modbus gateway"),
    "listen": ("edge_inspector.cli.listen", "the reference line controller: prints verdicts"),
    "compose": ("edge_inspector.cli.compose", "composes images with known defects"),
    "teach": ("edge_inspector.cli.teach", "from recorded or live good units to observing"),
    "train": ("edge_inspector.cli.train", "trains an engine from good images"),
    "evaluate": ("edge_inspector.cli.evaluate", "an engine's figures on labelled images"),
    "recipe": ("edge_inspector.cli.recipe", "proposes, edits and shows a product's regions"),
    "calibrate": ("edge_inspector.cli.calibrate", "sets a recipe's threshold from good units"),
    "inspect": ("edge_inspector.cli.inspect", "judges image files with a recipe or an engine"),
    "engine": ("edge_inspector.cli.engine", "shows, verifies and compares engines"),
    "lots": ("edge_inspector.cli.lots", "how the units of each lot came out; begins the next lot"),
    "alarms": ("edge_inspector.cli.alarms", "which alarms hold, and their reset"),
    "agreement": ("edge_inspector.cli.agreement", "compares verdicts with the incumbent's"),
    "promote": ("edge_inspector.cli.promote", "ends observing: the station drives from then on"),
    "outbox": ("edge_inspector.cli.outbox", "shows, exports and verifies the verdict log"),
    "rejects": ("edge_inspector.cli.rejects", "shows what was rejected, where and why"),
    "golden": ("edge_inspector.cli.golden", "units whose verdict is fixed, judged again"),
    "grr": ("edge_inspector.cli.grr", "how well repeated verdicts on the same units agree"),
    "bench": ("edge_inspector.cli.bench", "measures this box"),
    "rules": ("edge_inspector.cli.rules", "shows and tunes the rule-based inspector"),
    "schema": ("edge_inspector.cli.schema", "writes the JSON Schemas of the documents"),
}
RUNTIMES = ("numpy", "opencv-python-headless", "pyzmq", "openvino", "onnxruntime", "tensorrt")

EXIT_FINDING, EXIT_MISUSE, EXIT_BREAKAGE, EXIT_INTERRUPTED, EXIT_PIPE = 1, 2, 3, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code. Wrong arguments leave through `SystemExit(2)` as in argparse."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(given)
    except EdgeInspectorError as error:
        return _tell(str(error), _exit_code(error))
    except ModuleNotFoundError as error:
        if (error.name or "edge_inspector").startswith("edge_inspector"):
            raise
        return _tell(f"needs the package '{error.name}', which is not installed", EXIT_BREAKAGE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except OSError as error:
        return _tell(f"{error.filename or 'this box'}: {error.strerror or error}", _os_code(error))
    except KeyboardInterrupt:
        return _tell("interrupted", EXIT_INTERRUPTED)


def _run(given: list[str]) -> int:
    verb = next((word for word in given if word in VERBS), None) if given else None
    parser = _parser()
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name, (module, text) in VERBS.items():
        subparser = subparsers.add_parser(name, help=text, description=text.capitalize() + ".")
        if name == verb:
            importer.load(f"{module}:add_{name.replace('-', '_')}")(subparser)
    args = parser.parse_args(given)
    if args.verb is None:
        parser.print_help(sys.stderr)
        return EXIT_MISUSE
    code: int = importer.load(f"{VERBS[args.verb][0]}:run_{args.verb.replace('-', '_')}")(args)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-inspector",
        description="Frames in, one verdict per unit out, before the deadline.",
        epilog="Exit codes: 0 success, 1 findings or a failed unit, 2 wrong use, 3 a broken box.",
    )
    parser.add_argument("-v", "--version", action=_Version, help="versions, and leave")
    return parser


class _Version(argparse.Action):
    """Versions of this package, of Python and of the runtimes; imports none of them."""

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"edge-inspector {__version__}")
        print(f"python {platform.python_version()} on {platform.machine()}")
        for package in RUNTIMES:
            print(f"{package} {_version_of(package)}")
        parser.exit()


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _exit_code(error: EdgeInspectorError) -> int:
    if isinstance(error, Misuse):
        return EXIT_MISUSE
    return EXIT_BREAKAGE if isinstance(error, Breakage) else EXIT_FINDING


def _os_code(error: OSError) -> int:
    """A file that was named wrongly is the user's to mend, a full disk is the box's."""
    misnamed = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
    return EXIT_MISUSE if isinstance(error, misnamed) else EXIT_BREAKAGE


def _tell(problem: str, code: int) -> int:
    print(f"edge-inspector: {problem}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
