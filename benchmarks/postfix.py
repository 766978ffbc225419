"""A private Postfix: a durable relay, or a server that says what its settings have it say.

Its master wants to be root. Nothing of the machine's own Postfix is touched; its queue and its log
are in the directory that it is given.
"""

import grp
import os
import pwd
import shutil
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import mail
from benchmarks.bench import Bench
from benchmarks.errors import BenchError
from benchmarks.package import Programs
from benchmarks.sink import Sink
from ops import ports
from shared.contracts import address

NAME = "postfix"
HOSTNAME = "relay.bench.example"
_CONNECTIONS = 20  # Postfix's default_destination_concurrency_limit
# Where the package is not installed there is no user for it. The others are on every Debian, and
# all that Postfix asks is that nothing it starts for mail's sake runs as them.
_USERS = ("postfix", "mail")
_GROUPS = ("postdrop", "uucp")
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
    """One instance: its programs, its directory and the ports of 127.0.0.1 that it serves on.

    On the `plain_port` it offers neither SIZE nor PIPELINING.
    """

    programs: Programs
    home: Path
    port: int
    plain_port: int

    @property
    def log(self) -> Path:
        """The file that has what became of each mail."""
        return self.home / "log"

    def command(self) -> Sequence[str]:
        """Give the command that runs it in the foreground."""
        return [str(self.programs.daemons / "master"), "-d", "-c", str(self.home / "config")]

    def prepare(self, settings: Mapping[str, str]) -> None:
        """Make its directories and its configuration, in which `settings` go before ours.

        Raises BenchError when there is no user that it can run as, OSError.
        """
        user = _first(_USERS, (entry.pw_name for entry in pwd.getpwall()))
        group = _first(_GROUPS, (entry.gr_name for entry in grp.getgrall()))
        config, queue, data = (self.home / name for name in ("config", "queue", "data"))
        for directory in (config, queue / "pid", data):
            directory.mkdir(parents=True)
        for name in (*_QUEUES, *_SOCKETS, *_ALSO):
            (queue / name).mkdir(mode=0o700)
            shutil.chown(queue / name, user, group)
        shutil.chown(data, user)
        whole = {**self._settings(user, group), **settings}
        lines = (f"{name} = {value}\n" for name, value in whole.items())
        (config / "main.cf").write_text("".join(lines))
        # Of a file that has just been written it waits for two seconds whether there is more.
        os.utime(config / "main.cf", (0, 0))
        services = _SERVICES.format(port=self.port, plain_port=self.plain_port)
        (config / "master.cf").write_text(services)

    def _settings(self, user: str, group: str) -> Mapping[str, str]:
        programs, home = self.programs, self.home
        found = [f"{name}={value}" for name, value in programs.environment.items()]
        return {
            "compatibility_level": "3.6",
            "config_directory": f"{home}/config",
            "queue_directory": f"{home}/queue",
            "data_directory": f"{home}/data",
            "command_directory": f"{programs.commands}",
            "daemon_directory": f"{programs.daemons}",
            "shlib_directory": f"{programs.libraries}",
            "meta_directory": f"{programs.root}/etc/postfix",
            "mail_owner": user,
            "setgid_group": group,
            "import_environment": " ".join(["MAIL_CONFIG", *found]),
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


async def obstacle(bench: Bench, programs: Programs | None) -> str | None:
    """Tell why a Postfix cannot be had; None if it can."""
    if programs is None:
        return "there is no Postfix on this machine, and its package cannot be fetched"
    try:
        async with serving(bench, programs, {}):
            return None
    except (BenchError, OSError) as error:
        return str(error)


@asynccontextmanager
async def serving(
    bench: Bench, programs: Programs, settings: Mapping[str, str]
) -> AsyncIterator[tuple[Postfix, Process]]:
    """Run a Postfix until the block is left. Raises BenchError when it cannot be had, OSError."""
    if os.geteuid() != 0:
        raise BenchError("Postfix can only be started by root")
    port, plain_port = ports.unused(2)
    postfix = Postfix(programs, bench.directory / f"{NAME}-{port}", port, plain_port)
    postfix.prepare(settings)
    async with bench.running(NAME, postfix.command(), programs.environment) as process:
        for each in (port, plain_port):
            await bench.listening(NAME, process, each)
        yield postfix, process


async def relayed(bench: Bench, programs: Programs, served: Sink, count: int) -> float:
    """Have mails of the same size accepted and passed on; give how many a second were.

    A mail is on the disk before it is accepted. Who gives them in is of the same package and uses
    as many connections as Postfix itself. Raises BenchError, OSError.
    """
    size, expected = len(mail.ready_made()), served.count() + count
    async with serving(bench, programs, {"relayhost": f"[127.0.0.1]:{served.port}"}) as (
        postfix,
        process,
    ):
        source = [str(programs.commands / "smtp-source"), "-d", "-N", "-s", str(_CONNECTIONS)]
        envelope = ["-f", address.bare_address(mail.SENDER), "-t", mail.recipient(0)]
        load = ["-m", str(count), "-l", str(size), f"127.0.0.1:{postfix.port}"]
        command = [*source, *envelope, *load]
        async with bench.running("smtp-source", command, programs.environment):
            rate = await served.reach(expected, process)
    served.expect(expected)
    return rate


def _first(wanted: Sequence[str], there: Iterable[str]) -> str:
    known = set(there)
    found = next((name for name in wanted if name in known), None)
    if found is None:
        raise BenchError(f"Postfix needs a user and a group of its own: one of {wanted}")
    return found
