"""`python -m edge_inspector.delivery`, as core starts it."""

from edge_inspector.delivery.process import main

if __name__ == "__main__":
    raise SystemExit(main())
