"""`edge-inspector bench rules` as a script."""

import sys

from edge_inspector.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bench", "rules", *sys.argv[1:]]))
