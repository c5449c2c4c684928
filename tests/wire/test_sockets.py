import pytest

from edge_inspector.errors import Misuse
from edge_inspector.wire.sockets import check_bind


@pytest.mark.parametrize(
    ("endpoint", "allow"),
    [
        ("tcp://127.0.0.1:5574", []),
        ("tcp://localhost:5574", []),
        ("tcp://[::1]:5574", []),
        ("tcp://10.0.0.5:5574", ["10.0.0.0/24"]),
        ("ipc:///run/edge-inspector/frames", []),
    ],
)
def test_these_may_be_bound(endpoint, allow):
    check_bind(endpoint, allow)


@pytest.mark.parametrize(
    ("endpoint", "allow"),
    [
        ("tcp://*:5574", ["10.0.0.0/24"]),
        ("tcp://0.0.0.0:5574", ["10.0.0.0/24"]),
        ("tcp://[::]:5574", ["10.0.0.0/24"]),
        ("tcp://eth0:5574", ["10.0.0.0/24"]),
        ("tcp://10.0.0.5:5574", []),
        ("tcp://10.0.0.5:5574", ["10.0.0.1/24"]),
        ("ws://127.0.0.1:5574", []),
        ("127.0.0.1:5574", []),
    ],
)
def test_these_may_not(endpoint, allow):
    with pytest.raises(Misuse):
        check_bind(endpoint, allow)
