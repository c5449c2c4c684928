"""The examples in the docstrings of the reference source, run as they stand but for the endpoint."""

import asyncio
import inspect
import re
import textwrap

import numpy as np
import pytest

from edge_inspector import client
from edge_inspector.client import AsyncFrameSource, FrameSource

ENDPOINT = re.compile(r'"ipc://[^"]*"')


def example(documented, endpoint):
    """The indented block of a docstring."""
    text = inspect.getdoc(documented) or ""
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    code, found = ENDPOINT.subn(repr(endpoint), textwrap.dedent("\n".join(lines)))
    assert found == 1, f"{documented.__name__} has no example with an endpoint"
    return code


def run(code):
    """Run a block that may await, with what its reader has at hand."""
    names = {"image": np.zeros((8, 8), np.uint8), **vars(client)}
    exec(f"async def main():\n{textwrap.indent(code, '    ')}", names)
    asyncio.run(names["main"]())


@pytest.mark.parametrize("documented", [FrameSource, AsyncFrameSource])
def test_the_example_of_the_docstring_runs(documented, pretend_daemon, capsys):
    run(example(documented, pretend_daemon.endpoint))
    assert capsys.readouterr().out == "pass\n"
    assert pretend_daemon.frames[0][0].trigger_id == 17
