"""One process of the stack: its start, its restarts, its output, its end."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TextIO

import aiohttp

from ops.process import PidFiles, Restarts, ended, tethered
from ops.stack.settings import StackError

_COLOURS = (36, 33, 32, 35, 34, 31)  # ECMA-48 foregrounds, legible on dark and light
_NAME_COLUMNS = 10  # the longest name is "classifier"
_TAIL_LINES = 8
_WRONG_SETTINGS = 2  # the exit code for settings that no restart can change
_POLL_SECONDS = 0.1
_CHUNK_BYTES = 65536
_OUTPUT_SECONDS = 5.0  # for the output of a killed process to be read
_HURRIED_SECONDS = 10.0  # for the end of a program after a second SIGTERM
_MAX_RESTARTS = 2  # in a row, before it was ever ready
GRACE_SECONDS = 30.0  # a service waits 25 seconds for work in flight


class ServiceLogs:
    """The output of all processes: a file for each, and the terminal, which may close."""

    def __init__(self, directory: Path, terminal: TextIO) -> None:
        self._directory = directory
        self._terminal: TextIO | None = terminal
        self._coloured = terminal.isatty() and "NO_COLOR" not in os.environ
        self._files: dict[str, TextIO] = {}
        self._tails: dict[str, deque[str]] = {}

    def write(self, name: str, line: str) -> None:
        """Write a line of a process to its file and to the terminal."""
        self._file(name).write(line + "\n")
        self._tails[name].append(line)
        self.print(f"{self._prefix(name)} {line}")

    def print(self, text: str) -> None:
        """Print a message of the stack itself."""
        if self._terminal is None:
            return
        try:
            print(text, file=self._terminal, flush=True)
        except (OSError, ValueError):  # a closed terminal, or a pipe without a reader
            self._terminal = None

    def tail(self, name: str) -> str:
        """Return the last lines of a process."""
        return "\n".join(f"  {line}" for line in self._tails.get(name, ())) or "  (no output)"

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _file(self, name: str) -> TextIO:
        if name not in self._files:
            self._directory.mkdir(parents=True, exist_ok=True)
            path = self._directory / f"{name}.log"
            self._files[name] = path.open("w", encoding="utf-8", buffering=1)
            self._tails[name] = deque(maxlen=_TAIL_LINES)
        return self._files[name]

    def _prefix(self, name: str) -> str:
        if not self._coloured:
            return f"{name:<{_NAME_COLUMNS}} |"
        colour = _COLOURS[list(self._files).index(name) % len(_COLOURS)]
        return f"\x1b[{colour}m{name:<{_NAME_COLUMNS}} |\x1b[0m"


@dataclass(frozen=True)
class ServiceProgram:
    """A command, the URL that answers 200 once it is ready, and the seconds for its end."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready_url: str
    grace: float = GRACE_SECONDS


class Child:
    """Runs a program until it is stopped. `changed` is called after each restart."""

    def __init__(
        self,
        program: ServiceProgram,
        logs: ServiceLogs,
        pids: PidFiles,
        changed: Callable[[], None],
    ) -> None:
        self.program = program
        self._logs = logs
        self._pids = pids
        self._changed = changed
        self._process: Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()
        self._restarts = Restarts()

    @property
    def pid(self) -> int | None:
        """The process id of the newest process."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start it, and restart it whenever it ends."""
        await self._spawn()
        self._keeping = asyncio.create_task(self._keep(), name=f"keep {self.program.name}")

    async def ready(self, within: float) -> None:
        """Wait until it is ready.

        Raises StackError, with its last lines, after `within` seconds or too many restarts.
        """
        name = self.program.name
        try:
            async with asyncio.timeout(within), aiohttp.ClientSession() as session:
                while not await self._answers(session):
                    if self._is_hopeless():
                        raise StackError(f"{name} does not start:\n{self._logs.tail(name)}")
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise StackError(
                f"{name} is not ready after {within:g} seconds; its last lines:\n"
                f"{self._logs.tail(name)}"
            ) from None

    async def stop(self, within: float) -> None:
        """Send SIGTERM and wait; kill it after `within` seconds, sooner when it is hurried."""
        self._stopping.set()
        if self._keeping is None:
            return
        self._signal(signal.SIGTERM)
        if not await self._ends(self._keeping, within):
            limit = min(within, _HURRIED_SECONDS) if self._hurried.is_set() else within
            self._logs.print(f"{self.program.name} did not end in {limit:g} seconds: killed")
            self._signal(signal.SIGKILL)
            await asyncio.wait([self._keeping], timeout=_OUTPUT_SECONDS)
        self._pids.remove(self.program.name)

    async def _ends(self, keeping: asyncio.Task[None], within: float) -> bool:
        hurried = asyncio.create_task(self._hurried.wait())
        await asyncio.wait([keeping, hurried], timeout=within, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if self._hurried.is_set():
            await asyncio.wait([keeping], timeout=min(within, _HURRIED_SECONDS))
        return keeping.done()

    def hurry(self) -> None:
        """Send SIGTERM once more: a service then abandons work in flight."""
        self._stopping.set()
        self._hurried.set()
        self._signal(signal.SIGTERM)

    def abandon(self) -> None:
        """Never restart it from now on."""
        self._stopping.set()

    async def _spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *tethered(self.program.command),
            env=dict(self.program.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # the stack passes on a terminal's Ctrl-C, in order
        )
        self._pids.add(self.program.name, self._process.pid)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while self._process is not None:
            born = loop.time()
            await self._copy_output(self._process)
            code = await self._process.wait()
            if self._stopping.is_set():
                return
            if await self._stopped_in_pause(code, self._restarts.pause(loop.time() - born)):
                return
            await self._spawn()
            self._changed()
            self._logs.print(f"{self.program.name} runs again as process {self.pid}")
            if self._stopping.is_set():  # it was started after the signal
                self._signal(signal.SIGTERM)

    async def _stopped_in_pause(self, code: int, pause: float) -> bool:
        name = self.program.name
        self._logs.print(f"{name} {ended(code)}: starting it again in {pause:g} seconds")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause)
        return self._stopping.is_set()

    async def _copy_output(self, process: Process) -> None:
        rest = b""
        while process.stdout and (chunk := await process.stdout.read(_CHUNK_BYTES)):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._logs.write(self.program.name, line.decode(errors="replace"))
        if rest:
            self._logs.write(self.program.name, rest.decode(errors="replace"))

    def _is_hopeless(self) -> bool:
        wrong = self._process is not None and self._process.returncode == _WRONG_SETTINGS
        return wrong or self._restarts.crashes > _MAX_RESTARTS

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(self.program.ready_url) as response:
                return response.status == HTTPStatus.OK
        except aiohttp.ClientError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
