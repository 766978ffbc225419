"""The compose file: the same journeys in containers, least rights, and nothing lost on the way."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from functools import partial
from subprocess import CalledProcessError

import pytest

from shared.topology import RUNNING
from tests.containers.compose import Compose, addresses, registered, running
from tests.journeys.test_domains import test_our_own_mail_is_evidence
from tests.journeys.test_mail import (
    test_a_mail_arrives_as_it_was_sent,
    test_who_waits_hears_the_outcome,
)
from tests.journeys.test_otp import test_a_code_is_right_once
from tests.journeys.test_shutdown import insisting
from tests.journeys.user import User

__all__ = [
    "test_a_code_is_right_once",
    "test_a_mail_arrives_as_it_was_sent",
    "test_our_own_mail_is_evidence",
    "test_who_waits_hears_the_outcome",
]

# The first test waits for an image to be built and for everything to start.
pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]

OURS = {
    "classifier": {"AMQP_URL", "DATABASE_URL"},
    "gateway": {"AMQP_URL", "DATABASE_URL", "GATEWAY_ADMIN_TOKEN", "GATEWAY_KEY_SECRET"},
    "otp": {"AMQP_URL", "DATABASE_URL", "OTP_KEY", "SEALING_KEY"},
    "sender": {"AMQP_URL", "DATABASE_URL", "SEALING_KEY"},
    "rabbitmq": {"RABBITMQ_DEFAULT_PASS"},
    "postgres": {"POSTGRES_PASSWORD"},
}


def person(number: int) -> str:
    """Name a recipient of the load."""
    return f"stop+{number}@mail.example"


async def keep_sending(user: User, over: asyncio.Event) -> int:
    """Send a mail to one person after the other, as a good client; count them."""

    async def send(to: str) -> int:
        return (await user.send(to)).status

    sent = 0
    while not over.is_set():
        await insisting(partial(send, person(sent)), wanted=202)
        sent += 1
    return sent


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """Start all containers once."""
    with running(tmp_path_factory.mktemp("compose")) as started:
        yield started


@pytest.fixture
async def user(compose: Compose) -> AsyncIterator[User]:
    """Give a user with a key of its own."""
    async with User.of(await registered(compose, secrets.token_hex(8))) as somebody:
        yield somebody


def test_everything_is_up(compose: Compose) -> None:
    """Services run; what prepares them has ended well."""
    prepare = dict.fromkeys(("credentials", "topology", "roles"), "exited 0")
    serve = dict.fromkeys((*RUNNING, "simulator", "rabbitmq", "postgres"), "running 0")

    assert compose.containers() == prepare | serve


def test_three_ports_are_published_on_loopback(compose: Compose) -> None:
    """Broker, database and SMTP are for the containers alone; the rest for this machine alone."""
    urls = [compose.url("gateway", 8080), compose.url("simulator", 8025)]
    urls.append(compose.url("rabbitmq", 15672))
    published = compose.run("ps", "--format", "{{.Ports}}").split()

    assert all(url.startswith("http://127.0.0.1:") for url in urls)
    assert sum("->" in each for each in published) == len(urls)


@pytest.mark.parametrize("container", OURS)
def test_a_container_sees_its_own_secrets_only(compose: Compose, container: str) -> None:
    """What one service knows does not open another's queue, table or seal."""
    assert set(compose.execute(container, "ls", "/run/secrets").split()) == OURS[container]


@pytest.mark.parametrize("service", [*RUNNING, "simulator"])
def test_a_service_can_change_nothing_of_its_container(compose: Compose, service: str) -> None:
    """No root, no capability, no way to either, and nothing to write to but what it needs."""
    status = compose.execute(service, "cat", "/proc/self/status").splitlines()
    told = dict(line.split(":\t") for line in status if ":\t" in line)

    assert "0" not in told["Uid"].split()
    assert int(told["CapEff"], 16) == int(told["CapBnd"], 16) == 0
    assert told["NoNewPrivs"] == "1"
    with pytest.raises(CalledProcessError):
        compose.execute(service, "touch", "/opt/postrider/written")


def test_a_service_cannot_read_anothers_tables(compose: Compose) -> None:
    """The role of each service ends at its own schema."""
    url = compose.execute("otp", "cat", "/run/secrets/DATABASE_URL").replace("+asyncpg", "")

    own = compose.execute("postgres", "psql", url, "--command=SELECT count(*) FROM otp.challenges")
    assert "1 row" in own
    with pytest.raises(CalledProcessError) as refused:
        compose.execute("postgres", "psql", url, "--command=SELECT * FROM gateway.clients")
    assert b"permission denied for schema gateway" in refused.value.stderr


async def test_stopping_loses_nothing(compose: Compose, user: User) -> None:
    """`docker compose stop` under load: good exits, and what was accepted arrives exactly once."""
    over = asyncio.Event()
    sending = asyncio.create_task(keep_sending(user, over))
    await user.wait_for_mails(person(0))
    await asyncio.to_thread(compose.run, "stop", *RUNNING)
    states = compose.containers()
    await asyncio.to_thread(compose.run, "start", *RUNNING)
    over.set()
    sent = await sending

    arrived = [await user.wait_for_mails(person(number)) for number in range(sent)]

    assert {states[name] for name in RUNNING} == {"exited 0"}
    assert {len(mails) for mails in arrived} == {1}


async def test_a_second_up_finds_its_data(compose: Compose) -> None:
    """After `down` and `up` keys are good, mails are there, and domains are remembered."""
    record = await registered(compose, "returning")
    async with User.of(record) as user:
        await user.send("kept@again.example")
        await user.wait_for_domain("again.example", counted=1)
    await asyncio.to_thread(compose.down)
    await asyncio.to_thread(compose.up)

    async with User.of(record | addresses(compose)) as user:
        mails = await user.mails("kept@again.example")
        domain = await user.ask("GET", "/v1/domains/again.example")
        answer = await user.send("new@again.example")
        await user.wait_for_mails("new@again.example")

    assert len(mails) == 1
    assert domain.body["delivered"] == 1
    assert answer.status == 202
