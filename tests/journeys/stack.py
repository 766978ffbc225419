"""A stack for journeys: `ops up` with a folder and ports of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops import ports
from ops.stack.settings import PORTS, SERVICES
from tests.waiting import until

UP_SECONDS = 180.0
DOWN_SECONDS = 60.0
LOOK_SECONDS = 0.1  # between two looks for `stack.json`, which announces itself in no other way


@dataclass(frozen=True)
class Stack:
    """A running `ops up`, and the content of its `stack.json`."""

    process: subprocess.Popen[bytes]
    run_dir: Path
    environ: Mapping[str, str]

    @property
    def record(self) -> dict[str, Any]:
        """The present content of `stack.json`; process ids change when a service is restarted."""
        told: dict[str, Any] = json.loads((self.run_dir / "stack.json").read_text())
        return told

    def pid(self, service: str) -> int:
        """Return the present process id of a service."""
        return int(self.record["services"][service]["pid"])

    def terminate(self, service: str) -> int:
        """Send SIGTERM to a service, as a deployment does; return the process that was ended."""
        pid = self.pid(service)
        os.kill(pid, signal.SIGTERM)
        return pid

    async def kill(self, service: str) -> None:
        """Send SIGKILL to a service; the record may still have the process before this one."""

        async def is_killed() -> bool:
            try:
                os.kill(self.pid(service), signal.SIGKILL)
            except ProcessLookupError:
                return False
            return True

        await until(is_killed)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End the stack as Ctrl-C does and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DOWN_SECONDS)

    def output(self) -> str:
        """Return what the stack has printed so far."""
        return (self.run_dir / "up.out").read_text(errors="replace")


def fresh_environ(run_dir: Path) -> dict[str, str]:
    """Return the environment of a stack with free ports of its own."""
    ours = ("AMQP_URL", "DATABASE_URL", "RABBITMQ_", *(f"{each.upper()}_" for each in SERVICES))
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    chosen = zip(PORTS, map(str, ports.unused(len(PORTS))), strict=True)
    return {**inherited, **dict(chosen), "RUN_DIR": str(run_dir)}


@contextmanager
def running(run_dir: Path, environ: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Run `ops up` for the length of the block."""
    environ = environ or fresh_environ(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "up.out").open("wb") as output:
        process = subprocess.Popen(
            (sys.executable, "-m", "ops", "up"),
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    stack = Stack(process, run_dir, environ)
    try:
        _wait_until_up(stack)
        yield stack
    finally:
        if process.poll() is None:
            stack.stop()


def _wait_until_up(stack: Stack) -> None:
    give_up = time.monotonic() + UP_SECONDS
    while not (stack.run_dir / "stack.json").exists():
        if stack.process.poll() is not None or time.monotonic() > give_up:
            raise AssertionError(f"the stack did not come up:\n{stack.output()}")
        time.sleep(LOOK_SECONDS)
