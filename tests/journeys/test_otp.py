"""One code, from the request to the mailbox, and in no other place."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from shared.contracts import Category
from shared.topology import dead_queue, sending_queue
from tests.journeys.dump import Broker, Piece, codes, everything
from tests.journeys.stack import Stack
from tests.journeys.user import User
from tests.waiting import until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(180)]


async def test_a_code_is_right_once(user: User) -> None:
    """A wrong guess does not use up a code, and the code is right exactly once."""
    issued = await user.ask("POST", "/v1/otp", {"email": "otp@mail.example"})
    code = await user.wait_for_code("otp@mail.example")
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"

    assert issued.status == 202
    assert not await user.verified("otp@mail.example", wrong)
    assert await user.verified("otp@mail.example", f" {code[:3]}-{code[3:]} ")
    assert not await user.verified("otp@mail.example", code)


async def test_guesses_are_counted(user: User) -> None:
    """After five wrong guesses the right code is refused."""
    await user.ask("POST", "/v1/otp", {"email": "guess@mail.example"})
    code = await user.wait_for_code("guess@mail.example")
    wrong = [f"{(int(code) + step) % 1_000_000:06d}" for step in range(1, 6)]

    guesses = [await user.verified("guess@mail.example", each) for each in [*wrong, code]]

    assert not any(guesses)


async def test_a_code_is_for_its_address_only(user: User) -> None:
    """The code of one address verifies no other."""
    await user.ask("POST", "/v1/otp", {"email": "mine@mail.example"})
    code = await user.wait_for_code("mine@mail.example")

    assert not await user.verified("yours@mail.example", code)
    assert await user.verified("mine@mail.example", code)


async def test_too_early_and_cancelled(user: User) -> None:
    """Within the cooldown nothing is mailed; a cancelled code is refused."""
    body = {"email": "early@mail.example"}
    issued = await user.ask("POST", "/v1/otp", body)
    early = await user.ask("POST", "/v1/otp", body)
    code = await user.wait_for_code("early@mail.example")
    cancelled = [await user.ask("DELETE", f"/v1/otp/{issued.body['id']}") for _ in range(2)]

    assert early.status == 429
    assert 0 < int(early.headers["Retry-After"]) <= 60
    assert [answer.status for answer in cancelled] == [204, 204]
    assert not await user.verified("early@mail.example", code)
    assert len(await user.mails("early@mail.example")) == 1


async def test_equal_requests_at_once_are_one_code_and_one_guess(user: User) -> None:
    """Fifty equal requests for a code, and fifty equal guesses, have one answer and effect each."""
    email = "equal@mail.example"
    asked = await asyncio.gather(
        *(
            user.ask("POST", "/v1/otp", {"email": email}, headers={"Idempotency-Key": "equal"})
            for _ in range(50)
        )
    )
    code = await user.wait_for_code(email)
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    guessed = [
        await asyncio.gather(
            *(
                user.ask(
                    "POST",
                    "/v1/otp/verify",
                    {"email": email, "code": each},
                    headers={"Idempotency-Key": f"guess-{each}"},
                )
                for _ in range(50)
            )
        )
        for each in (wrong, code)
    ]

    assert {answer.status for answer in asked} == {202}
    assert all(answer.body == asked[0].body for answer in asked)
    assert len(await user.mails(email)) == 1
    assert [[answer.body["verified"] for answer in answers] for answers in guessed] == [
        [False] * 50,
        [True] * 50,
    ]


async def test_guesses_at_many_addresses_are_stopped(user: User) -> None:
    """A client address has 300 wrong guesses for all codes, and no other address fewer."""
    await user.ask("POST", "/v1/otp", {"email": "one@mail.example"})
    code = await user.wait_for_code("one@mail.example")
    place = {"ip": "192.0.2.66"}
    guesses = [user.verify(f"one-of-many-{n}@mail.example", "000000", **place) for n in range(310)]
    answers = Counter([answer.status for answer in await asyncio.gather(*guesses)])
    stopped = await user.verify("one@mail.example", code, **place)

    assert answers == {200: 300, 429: 10}
    assert (stopped.status, stopped.body["code"]) == (429, "too-many-requests")
    assert 23 * 3600 < int(stopped.headers["Retry-After"]) <= 25 * 3600
    assert await user.verified("one@mail.example", code)


async def test_a_code_is_written_down_nowhere(stack: Stack, user: User) -> None:
    """Nothing that the stack wrote holds an issued code, but for the mailbox itself.

    Neither of a code that was delivered and verified, nor of one that waits for another attempt,
    bounced, or died. Of eight digits, of which no other number is by chance.
    """
    kinds = ("delivered", "reply-rcpt-451-4-2-0", "reply-rcpt-550-5-1-1")
    emails = [f"{kind}+secret@nowhere.example" for kind in kinds]
    answers = [await user.ask("POST", "/v1/otp", {"email": e, "length": 8}) for e in emails]
    found = codes(stack, "+secret@nowhere.example")
    [mail] = await user.wait_for_mails(emails[0])
    answers += [await user.verify(emails[0], code) for code in (found[emails[1]], found[emails[0]])]
    broker, dead = Broker(stack), dead_queue(sending_queue(Category.OTP))
    waiting = await _deferred(broker, emails[1])
    broker.publish("mail.commands", waiting, type="email.nonsense")
    await until(lambda: _is_there(broker, dead, emails[1]))

    written = [*everything(stack), Piece("subject", mail["subject"].encode())]
    written += [Piece("answer", repr(answer).encode()) for answer in answers]
    broker.purge(dead)

    assert [answer.status for answer in answers] == [202, 202, 202, 200, 200]
    assert answers[-1].body["verified"] is True
    assert found.keys() == {*emails}
    assert any(piece.where == dead for piece in written)
    assert any(piece.where.startswith("otp.sqlite") for piece in written)
    assert [piece.where for piece in written for code in found.values() if piece.holds(code)] == []
    assert found[emails[0]] in mail["text"]


async def _deferred(broker: Broker, email: str) -> dict[str, Any]:
    """Wait until a mail waits for its next attempt, and look at it."""

    def there() -> list[dict[str, Any]]:
        queues = [name for name in broker.queues() if name.startswith("delay.")]
        messages = [message for name in queues for message in broker.messages(name)]
        return [message for message in messages if email in message["payload"]]

    async def is_there() -> bool:
        return bool(there())

    await until(is_there)
    return there()[0]


async def _is_there(broker: Broker, queue: str, text: str) -> bool:
    return any(text in message["payload"] for message in broker.messages(queue))
