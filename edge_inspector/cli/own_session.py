"""Going on in a child with a session, and so a scheduling group, of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from edge_inspector.process import die_with_parent

EXIT_SIGNALLED = 128


def own_session() -> int | None:
    """
    None in the child, which goes on; in the parent, once the child has ended, its exit status.

    The kernel weighs sessions against each other (sched(7), autogroup), so a program that is to
    give way must not share one with whatever else was started in this terminal. Where threads run
    already, nothing is forked and None is returned. Ctrl-C reaches the child through the parent.
    """
    if os.getsid(0) == os.getpid() or len(list(Path("/proc/self/task").iterdir())) > 1:
        return None
    child = os.fork()
    if child == 0:
        os.setsid()
        die_with_parent()
        return None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda given, _: os.kill(child, given))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return EXIT_SIGNALLED + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)
