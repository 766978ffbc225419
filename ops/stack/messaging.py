"""The stack's RabbitMQ, given or run here, with the topology and a user for each service."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from yarl import URL

from ops import node, topology
from ops.broker import BrokerAddress, BrokerError, RabbitServer
from ops.cli import quiet
from ops.credentials import SecretFile
from ops.process import PidFiles, Restarts, tethered
from ops.stack.child import ServiceLogs
from ops.stack.settings import SERVICES, StackError, StackSettings
from shared.config.url import brokers, masked_hosts
from shared.errors import Unavailable
from shared.runtime.outage import Outage, described


@dataclass(frozen=True)
class BrokerUrls:
    """The addresses of RabbitMQ, for an administrator and for each service."""

    amqp_url: str = field(repr=False)
    management_url: str | None
    service_urls: Mapping[str, str] = field(repr=False)


@asynccontextmanager
async def given(settings: StackSettings) -> AsyncIterator[BrokerUrls]:
    """Use the broker of AMQP_URL, which may name the nodes of a cluster. Raises StackError."""
    url = settings.amqp_url or ""
    in_cluster = len(brokers(url)) > 1
    try:
        with quiet():  # aiormq logs a refused connection, which is raised here as well
            await topology.declare(url, in_cluster=in_cluster)
    except Unavailable as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        where = masked_hosts(url)
        advice = Outage("RabbitMQ", where, "AMQP_URL").advice(cause)
        reason = f"{described(cause)}; {advice}"
        raise StackError(f"RabbitMQ at {where} (AMQP_URL) cannot be used: {reason}") from error
    yield BrokerUrls(url, settings.management_url, dict.fromkeys(SERVICES, url))


@asynccontextmanager
async def own(
    settings: StackSettings, keys: SecretFile, pids: PidFiles, logs: ServiceLogs
) -> AsyncIterator[BrokerUrls]:
    """Run a private broker, with a user of least rights for each service. Raises StackError."""
    address = BrokerAddress(settings.broker_ports, keys.passwords(["admin"])["admin"])
    try:
        await asyncio.to_thread(node.prepare)
        broker = node.private(settings.run_dir / "rabbitmq", address, pids, start_as=tethered)
        async with kept(broker, logs):
            yield await _furnish(address, keys)
    except BrokerError as error:
        raise StackError(str(error)) from error


@asynccontextmanager
async def kept(broker: RabbitServer, logs: ServiceLogs) -> AsyncIterator[None]:
    """Run a broker during the block. Raises BrokerError when it does not start."""
    # The kernel ends a tethered process with the thread that started it, so that thread must live
    # as long as the broker.
    with ThreadPoolExecutor(1, "broker") as starter:
        keeping: asyncio.Task[None] | None = None
        try:
            await _start(broker, starter)
            keeping = asyncio.create_task(_keep(broker, logs, starter), name="keep RabbitMQ")
            yield
        finally:
            if keeping is not None:
                keeping.cancel()
                with suppress(asyncio.CancelledError):
                    await keeping
            # In another thread: the starter may be waiting for a start that this ends.
            await asyncio.to_thread(broker.stop)


async def _start(broker: RabbitServer, starter: ThreadPoolExecutor) -> None:
    await asyncio.get_running_loop().run_in_executor(starter, broker.start)


async def _keep(broker: RabbitServer, logs: ServiceLogs, starter: ThreadPoolExecutor) -> None:
    """Restart it whenever it ends, until cancelled; its clients reconnect by themselves."""
    loop, restarts = asyncio.get_running_loop(), Restarts()
    while True:
        born = loop.time()
        how = await asyncio.to_thread(broker.join)
        pause = restarts.pause(loop.time() - born)
        logs.print(f"postrider: RabbitMQ {how}: starting it again in {pause:g} seconds")
        await asyncio.sleep(pause)
        try:
            await _start(broker, starter)
        except BrokerError as error:
            logs.print(f"postrider: {error}")
        else:
            logs.print("postrider: RabbitMQ runs again")


async def _furnish(address: BrokerAddress, keys: SecretFile) -> BrokerUrls:
    passwords = keys.passwords(SERVICES)
    url = address.amqp_url()
    await topology.declare(url)
    await topology.grant(address.management_url, address.user, address.password, "/", passwords)
    service_urls = {
        name: str(URL(url).with_user(name).with_password(password))
        for name, password in passwords.items()
    }
    return BrokerUrls(url, address.management_url, service_urls)
