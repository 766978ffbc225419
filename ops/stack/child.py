"""One process of the stack: started, watched, started again when it dies, ended in good order."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

from ops.process import PidFiles
from ops.stack.errors import StackError
from ops.stack.journal import Journal

_WRONG_SETTINGS = 2  # the exit code of a service that no restart can help
_POLL = 0.1  # seconds between two looks at a starting service
_CHUNK = 65536  # bytes
_LAST_WORDS = 5.0  # seconds for the output of a killed process to be read
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before the 1st, 2nd, ... restart
_TRIES = 2  # restarts before it was ever ready; the third death in a row is the last
_STEADY = 30.0  # seconds of life after which a death counts as the first again


@dataclass(frozen=True)
class Program:
    """What to run and where it tells that it is ready (200) and alive."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready_url: str


class Child:
    """Runs a program until it is stopped. `changed` is called when its process id is another."""

    def __init__(
        self, program: Program, journal: Journal, pids: PidFiles, changed: Callable[[], None]
    ) -> None:
        self.program = program
        self._journal = journal
        self._pids = pids
        self._changed = changed
        self._process: Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._deaths = 0  # in a row

    @property
    def pid(self) -> int | None:
        """The process id of the newest process."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start it and keep it running."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.program.name}")

    async def ready(self, within: float) -> None:
        """Wait until it is ready.

        Raises StackError with its last lines when it is not in time, or dies again and again.
        """
        name = self.program.name
        try:
            async with asyncio.timeout(within), aiohttp.ClientSession() as session:
                while not await self._answers(session):
                    if self._is_hopeless():
                        raise StackError(f"{name} does not start:\n{self._journal.tail(name)}")
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise StackError(
                f"{name} is not ready after {within:g} seconds; its last lines:\n"
                f"{self._journal.tail(name)}"
            ) from None

    async def stop(self, within: float) -> None:
        """Ask it to end and wait; kill it after `within` seconds."""
        self._stopping.set()
        if self._keeper is None:
            return
        self._signal(signal.SIGTERM)
        if not (await asyncio.wait([self._keeper], timeout=within))[0]:
            self._journal.say(f"{self.program.name} did not end in {within:g} seconds: killed")
            self._signal(signal.SIGKILL)
            await asyncio.wait([self._keeper], timeout=_LAST_WORDS)
        self._pids.remove(self.program.name)

    def let_go(self) -> None:
        """Start it no more, whatever ends it."""
        self._stopping.set()

    async def _spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self.program.command,
            env=dict(self.program.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C is the stack's to pass on, in order
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
            self._deaths = 1 if loop.time() - born > _STEADY else self._deaths + 1
            if await self._stopped_in_pause(code, _PAUSES[min(self._deaths, len(_PAUSES)) - 1]):
                return
            await self._spawn()
            self._changed()
            self._journal.say(f"{self.program.name} runs again as process {self.pid}")
            if self._stopping.is_set():  # it was too young to be signalled
                self._signal(signal.SIGTERM)

    async def _stopped_in_pause(self, code: int, pause: float) -> bool:
        name = self.program.name
        self._journal.say(f"{name} {_ended(code)}: starting it again in {pause:g} seconds")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause)
        return self._stopping.is_set()

    async def _copy_output(self, process: Process) -> None:
        rest = b""
        while process.stdout and (chunk := await process.stdout.read(_CHUNK)):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._journal.write(self.program.name, line.decode(errors="replace"))
        if rest:
            self._journal.write(self.program.name, rest.decode(errors="replace"))

    def _is_hopeless(self) -> bool:
        wrong = self._process is not None and self._process.returncode == _WRONG_SETTINGS
        return wrong or self._deaths > _TRIES

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


def _ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
