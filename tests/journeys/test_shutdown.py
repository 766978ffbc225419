"""SIGTERM to each service under load: nothing is lost and nothing is doubled."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from tests.journeys.stack import Stack
from tests.journeys.user import User
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(180)]

LOAD = 200  # requests of one kind


async def restarted(stack: Stack, user: User, service: str, ended: int) -> None:
    """Wait until the supervisor has a new process of a service, which is ready."""

    async def is_new() -> bool:
        return stack.pid(service) != ended

    await until(is_new, within=60)
    await user.wait_until_ready(service)


async def insisting(request: Callable[[], Awaitable[int]], wanted: int) -> int:
    """Send a request until it is answered, after refusals and cut connections; count the tries."""
    tries = 0

    async def answered() -> bool:
        nonlocal tries
        tries += 1
        try:
            return await request() == wanted
        except aiohttp.ClientError:
            return False

    await until(answered, within=5 * PATIENCE_SECONDS)  # all services may stop and start meanwhile
    return tries


@pytest.fixture(params=["DATA", "BDAT"])
async def command(request: pytest.FixtureRequest, stack: Stack, user: User) -> AsyncIterator[str]:
    """Return the command by which the sender sends contents, which BDAT is while it is offered."""
    if request.param == "BDAT":
        async with user.offering("CHUNKING"):
            await restarted(stack, user, "sender", stack.terminate("sender"))
            await user.send("first@bdat.example")
            await user.wait_for_mails("first@bdat.example")
            assert await user.metric("sender", "postrider_smtp_chunked_total")
            yield request.param
    else:
        yield request.param


async def test_the_sender_ends_without_loss_or_copy(stack: Stack, user: User, command: str) -> None:
    """Mails in SMTP at the end of a sender are finished, the others sent by the next one."""
    addresses = [f"sigterm+{number}@{command.lower()}.example" for number in range(LOAD)]
    sending = asyncio.gather(*(user.send(address) for address in addresses))
    await user.wait_for_mails(addresses[0])
    ended = stack.terminate("sender")
    answers = await sending
    await restarted(stack, user, "sender", ended)

    arrived = [await user.wait_for_mails(address) for address in addresses]

    assert {answer.status for answer in answers} == {202}
    assert {len(mails) for mails in arrived} == {1}


async def test_the_gateway_keeps_what_it_accepted(stack: Stack, user: User) -> None:
    """Each 202 is one mail, also those of a gateway that ends."""
    accepted: list[str] = []

    async def send(address: str) -> int:
        status = (await user.send(address)).status
        if status == 202:
            accepted.append(address)
        return status

    async def insist(address: str) -> int:
        return await insisting(lambda: send(address), wanted=202)

    addresses = [f"sigterm+{number}@gateway.example" for number in range(LOAD)]
    sending = asyncio.gather(*map(insist, addresses))
    await user.wait_for_mails(addresses[0])
    ended = stack.terminate("gateway")
    await sending
    await restarted(stack, user, "gateway", ended)

    arrived = {address: len(await user.wait_for_mails(address)) for address in addresses}

    assert sorted(accepted) == sorted(addresses)
    assert set(arrived.values()) == {1}


async def test_the_classifier_counts_each_event_once(stack: Stack, user: User) -> None:
    """Events in flight at the end of the classifier are counted exactly once."""
    path = "/v1/events/sigterm.example/delivered"
    counting = asyncio.gather(*(user.ask("PUT", path) for _ in range(LOAD)))
    ended = stack.terminate("classifier")
    answers = await counting
    await restarted(stack, user, "classifier", ended)

    described = await user.wait_for_domain("sigterm.example", LOAD)

    assert {answer.status for answer in answers} == {202}
    assert described["delivered"] == LOAD


async def test_codes_survive_the_service_that_issued_them(stack: Stack, user: User) -> None:
    """Each accepted request is one code, right once, also after the restart."""
    emails = [f"sigterm-{number}@otp.example" for number in range(40)]
    asking = asyncio.gather(*(user.ask("POST", "/v1/otp", {"email": each}) for each in emails))
    await user.wait_for_mails(emails[0])
    ended = stack.terminate("otp")
    answers = await asking
    await restarted(stack, user, "otp", ended)

    codes = {each: await user.wait_for_code(each) for each in emails}
    verdicts = [await user.verified(email, code) for email, code in codes.items()]
    copies = [len(await user.mails(email)) for email in emails]

    assert {answer.status for answer in answers} == {202}
    assert all(verdicts)
    assert set(copies) == {1}
