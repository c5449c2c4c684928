"""`edge-inspector bench gpu` as a script."""

import sys

from edge_inspector.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bench", "gpu", *sys.argv[1:]]))
