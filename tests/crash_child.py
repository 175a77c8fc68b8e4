"""Makes one call of a registry in a forked process, and has it killed at a step of the caller's.

A step is an fsync, a rename or a commit. One JSON object a line comes in on standard input:
`{"url", "artifacts", "call", "given", "kill": place from 0 or null, "after": bool}`; one goes out:
`{"steps": what was taken, "acknowledged", "killed"}`. Forked, since a new Python takes a second.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from adapters_registry.registry import Registry
from adapters_registry.types import ServingProfile
from tests.busy_registry import ADMIN, BASE

Given = dict[str, Any]


def _push(registry: Registry, given: Given) -> None:
    registry.push(
        "acme",
        "support",
        Path(given["folder"]),
        base=BASE,
        max_rank=16,
        profile=ServingProfile(),
        actor=ADMIN,
    )


def _import(registry: Registry, given: Given) -> None:
    with Path(given["file"]).open("rb") as file:
        registry.import_tenant(
            file,
            name=given["name"],
            base=BASE,
            base_name="base",
            max_rank=16,
            max_weights_bytes=2**20,
            work_dir=Path(given["work"]),
            actor=ADMIN,
        )


def _restore(registry: Registry, given: Given) -> None:
    with Path(given["file"]).open("rb") as file:
        registry.restore(file, Path(given["work"]))


CALLS: dict[str, Callable[[Registry, Given], object]] = {
    "push": _push,
    "promote": lambda r, g: r.promote("acme", "support", g["version"], actor=ADMIN, force=True),
    "rollback": lambda r, _: r.rollback("acme", "support", actor=ADMIN),
    "delete": lambda r, g: r.delete_version("acme", "support", g["version"], actor=ADMIN),
    "collect": lambda r, _: r.collect_garbage(grace=timedelta(0), actor=ADMIN),
    "import": _import,
    "restore": _restore,
}


class Steps:
    """Counts the steps of this process, and kills it at one of them."""

    def __init__(self, kill: int | None, after: bool, report: Callable[[str], None]) -> None:
        self._taken = 0
        self._kill = kill
        self._after = after
        self._report = report

    def install(self) -> None:
        """From now on."""
        for name in ("fsync", "rename", "replace"):
            setattr(os, name, self._counted(name, getattr(os, name)))
        commit: Any = self._counted("commit", DefaultDialect.do_commit)
        DefaultDialect.do_commit = commit  # type: ignore[method-assign]

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            here = self._taken == self._kill
            self._taken += 1
            self._report(name)
            if here and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return real(*args, **kwargs)
            finally:
                if here:
                    os.kill(os.getpid(), signal.SIGKILL)

        return step


def _run(order: dict[str, Any], out: int) -> None:
    """In the forked process."""

    def say(word: str) -> None:
        os.write(out, word.encode() + b"\n")

    registry = Registry.open(order["url"], Path(order["artifacts"]))
    Steps(order["kill"], order["after"], say).install()
    CALLS[order["call"]](registry, order["given"])
    say("acknowledged")


def _forked(order: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            _run(order, writer)
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}\n".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        words = said.read().splitlines()
    _, status = os.waitpid(pid, 0)
    return {
        "steps": [word for word in words if word != "acknowledged"],
        "acknowledged": "acknowledged" in words,
        "killed": os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL,
    }


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_forked(json.loads(line))), flush=True)
