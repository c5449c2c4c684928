"""`train KIND`: finds the kind and imports it alone."""

from __future__ import annotations

import argparse
from typing import Any

from edge_inspector import importer

KINDS: dict[str, tuple[str, str]] = {
    "anomaly": ("edge_inspector.cli.train_anomaly", "learns from good images only"),
    "classifier": ("edge_inspector.cli.train_classifier", "learns to name defects"),
    "gan": ("edge_inspector.cli.train_gan", "learns to draw more defects to learn from"),
}


def add_train(parser: argparse.ArgumentParser) -> None:
    """Arguments of `train`; those of a kind are added when it is asked for."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND", parser_class=_Kind)
    for name, (_, text) in KINDS.items():
        kinds.add_parser(name, help=text, description=text.capitalize() + ".")


def run_train(args: argparse.Namespace) -> int:
    """Run one kind; its exit code."""
    code: int = importer.load(f"{KINDS[args.kind][0]}:run_train_{args.kind}")(args)
    return code


class _Kind(argparse.ArgumentParser):
    """The parser of one kind, which imports it when it parses."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        name = self.prog.split()[-1]
        importer.load(f"{KINDS[name][0]}:add_train_{name}")(self)
        return super().parse_known_args(args, namespace)
