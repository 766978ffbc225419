"""A private instance of the installed Postfix: a relay, or a server with settings of a test.

Its master has to run as root. The machine's own instance is not touched: queue and log of this one
are in a directory of its own.
"""

import os
import shutil
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import mail
from benchmarks.bench import Bench, BenchError, BenchPlan
from benchmarks.sink import Sink
from ops import ports
from ops.run_directory import scratch
from shared.contracts import address

NAME = "postfix"
COMMANDS = Path("/usr/sbin")
DAEMONS = Path("/usr/lib/postfix/sbin")
MEMORY = Path("/dev/shm/postrider-bench")  # noqa: S108 -- a file system in memory
HOSTNAME = "relay.bench.example"
_DISCARDED = b"status=sent"  # in a line of its log
_CONNECTIONS = 20  # Postfix's default_destination_concurrency_limit
_USER, _GROUP = "postfix", "postdrop"
_QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming")
_SOCKETS = ("private", "public")
_ALSO = ("maildrop", "saved", "trace")
# The package's own master.cf, the port aside and without what is not used here.
_SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{plain_port} inet n - n - - smtpd -o smtpd_discard_ehlo_keywords=size,pipelining
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True, slots=True)
class Postfix:
    """One instance: its directory and the ports of 127.0.0.1 that it serves on.

    On the `plain_port` it offers neither SIZE nor PIPELINING.
    """

    home: Path
    port: int
    plain_port: int

    @property
    def log(self) -> Path:
        """The file with the outcome of each mail."""
        return self.home / "log"

    def command(self) -> Sequence[str]:
        """Return the command that runs it in the foreground."""
        return [str(DAEMONS / "master"), "-d", "-c", str(self.home / "config")]

    def prepare(self, settings: Mapping[str, str]) -> None:
        """Write its directories and its configuration, in which `settings` go before ours.

        Raises OSError.
        """
        config, queue, data = (self.home / name for name in ("config", "queue", "data"))
        for directory in (config, queue / "pid", data):
            directory.mkdir(parents=True)
        for name in (*_QUEUES, *_SOCKETS, *_ALSO):
            (queue / name).mkdir(mode=0o700)
            shutil.chown(queue / name, _USER, _GROUP)
        shutil.chown(data, _USER)
        whole = {**self._settings(), **settings}
        lines = (f"{name} = {value}\n" for name, value in whole.items())
        (config / "main.cf").write_text("".join(lines))
        # Of a file that has just been written it waits for two seconds whether there is more.
        os.utime(config / "main.cf", (0, 0))
        services = _SERVICES.format(port=self.port, plain_port=self.plain_port)
        (config / "master.cf").write_text(services)

    def _settings(self) -> Mapping[str, str]:
        home = self.home
        return {
            "compatibility_level": "3.6",
            "config_directory": f"{home}/config",
            "queue_directory": f"{home}/queue",
            "data_directory": f"{home}/data",
            "mail_owner": _USER,
            "setgid_group": _GROUP,
            "import_environment": "MAIL_CONFIG",
            "maillog_file": f"{self.log}",
            "maillog_file_prefixes": f"{home}",
            "myhostname": HOSTNAME,
            "mydestination": "",
            "alias_maps": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "disable_dns_lookups": "yes",
            "smtp_host_lookup": "native",
        }


@dataclass(frozen=True, slots=True)
class DiscardingPostfix(Sink):
    """A Postfix as a sink. Its counter is its log, of which only what is new is read."""

    _read: list[int] = field(default_factory=lambda: [0, 0])  # octets, and mails in them

    def count(self) -> int:
        """Return how many mails there were."""
        with self.counter.open("rb") as file:
            file.seek(self._read[0])
            whole_lines, _, _ = file.read().rpartition(b"\n")
        self._read[0] += len(whole_lines)
        self._read[1] += whole_lines.count(_DISCARDED)
        return self._read[1]


@asynccontextmanager
async def discarding(bench: Bench) -> AsyncIterator[Sink]:
    """Run a Postfix that accepts all mails, to memory, and discards them.

    The disk would take as long for each mail as a round trip of 20 ms does. Raises BenchError when
    none runs here, OSError.
    """
    # By default it accepts slowly what comes faster than it goes.
    settings = {"default_transport": "discard:", "in_flow_delay": "0"}
    with scratch(MEMORY if MEMORY.parent.is_dir() else bench.directory) as directory:
        async with serving(replace(bench, directory=directory), settings) as (postfix, _):
            yield DiscardingPostfix(f"{NAME} that discards", postfix.port, postfix.log)


async def obstacle(bench: Bench) -> str | None:
    """Return why no Postfix runs here, None if one does."""
    try:
        async with serving(bench, {}):
            return None
    except (BenchError, OSError) as error:
        return str(error)


@asynccontextmanager
async def serving(
    bench: Bench, settings: Mapping[str, str]
) -> AsyncIterator[tuple[Postfix, Process]]:
    """Run a Postfix until the block is left. Raises BenchError when none runs here, OSError."""
    if not (DAEMONS / "master").exists():
        raise BenchError("Postfix is not installed: apt-get install postfix")
    if os.geteuid() != 0:
        raise BenchError("Postfix can only be started by root")
    port, plain_port = ports.unused(2)
    postfix = Postfix(bench.directory / f"{NAME}-{port}", port, plain_port)
    postfix.prepare(settings)
    async with bench.running(NAME, postfix.command(), {}) as process:
        try:
            for each in (port, plain_port):
                await bench.listening(NAME, process, each)
        except BenchError as error:
            # It writes nothing to its output, and not even there when a port is taken.
            log = postfix.log.read_text() if postfix.log.exists() else "no log"
            raise BenchError(f"{error}{log}") from error
        yield postfix, process


async def relayed(bench: Bench, served: Sink, plan: BenchPlan) -> float:
    """Return how many mails a second of the same size are accepted and passed on.

    A mail is on the disk before it is accepted. `smtp-source` of the same package gives them in,
    over as many connections as Postfix itself uses. Raises BenchError, OSError.
    """
    size, expected = len(mail.ready_made(plan.length)), served.count() + plan.count
    relayhost = {"relayhost": f"[127.0.0.1]:{served.port}"}
    async with serving(bench, relayhost) as (postfix, process):
        source = [str(COMMANDS / "smtp-source"), "-d", "-N", "-s", str(_CONNECTIONS)]
        envelope = ["-f", address.bare_address(mail.SENDER), "-t", mail.recipient(0)]
        load = ["-m", str(plan.count), "-l", str(size), f"127.0.0.1:{postfix.port}"]
        async with bench.running("smtp-source", [*source, *envelope, *load], {}):
            rate = await served.reach(expected, process)
    served.expect(expected)
    return rate
