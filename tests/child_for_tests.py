"""A child process that behaves as its first argument says."""

import os
import signal
import sys
import time

from adapters_registry.child import Report, serve_parent
from adapters_registry.errors import ModelError


def _work(report: Report) -> None:
    behaviour = sys.argv[1]
    report("first", 0.0)
    if behaviour == "refuses":
        raise ModelError("no such thing: pip install it")
    if behaviour == "raises":
        raise RuntimeError("out of luck")
    if behaviour == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "prints":
        print("noise on standard output")
        os.write(1, b"and below Python\n")
    if behaviour == "waits":
        report(f"pid {os.getpid()}", None)
        time.sleep(600)
    report("last", 1.0)


if __name__ == "__main__":
    sys.exit(serve_parent(_work))
