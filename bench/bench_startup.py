"""`edge-inspector bench startup` as a script."""

import sys

from edge_inspector.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bench", "startup", *sys.argv[1:]]))
