"""Dead letters on a real broker: shown with their cause, sent back, dropped."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from yarl import URL

from ops import topology as command
from ops.broker import RabbitServer as Node
from shared import topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import SendEmail
from shared.dead_letter import DROPPED_MAIL
from shared.topology import Owner
from tests.console.operator import DELAYS, Operator, declare, settings, visiting
from tests.gateway.fake_service import FakeService
from tests.ops.dying import LETTERS, QUEUE, fail, handled, mail, refuse, rejected, settled
from tests.tap import publish_raw
from tests.waiting import until
from tests.world import PASSWORDS, login

pytestmark = pytest.mark.rabbit
PATH = f"/dead-letters/{LETTERS}"
REASON = "never s"  # of a mail that `rejected` has refused


@pytest.fixture
def no_users_left(rabbit: Node) -> Iterator[None]:
    """Remove the console's user, which belongs to the whole node, not to the test's vhost."""
    yield
    rabbit.address.management.request("DELETE", f"/users/{Owner.CONSOLE}")


@pytest.fixture
async def operator(
    rabbit: Node, vhost: str, tmp_path: Path, no_users_left: None
) -> AsyncIterator[Operator]:
    """Log in to a console that has no more rights at the broker than it needs."""
    del no_users_left
    await declare(vhost, QUEUE, LETTERS, *DELAYS)
    where, name = rabbit.address, unquote(urlsplit(vhost).path[1:])
    passwords = {"console": PASSWORDS[Owner.CONSOLE]}
    await command.grant(where.management_url, where.user, where.password, name, passwords)
    given = settings(login(vhost, Owner.CONSOLE), tmp_path)
    async with visiting(given) as found:
        await found.log_in()
        yield found


async def test_letters_are_shown_by_cause(vhost: str, operator: Operator) -> None:
    """The largest group comes first, and no text of a mail is shown."""
    await handled(vhost, fail, 1, mail("m-1"))
    await handled(vhost, refuse, 3, mail("m-2"), mail("m-3"))
    page = await operator.get(PATH)
    letter = await operator.get(f"{PATH}/m-1")
    gone = await operator.get(f"{PATH}/m-9")

    assert page.words.index("rejected (2)") < page.words.index("exhausted (1)")
    assert REASON in page.words
    assert "ada@example.com" in letter.words
    assert "secret" not in letter.text
    assert "(6 characters withheld)" in letter.words
    assert gone.status == 404
    await settled(vhost, LETTERS, 3)


async def test_the_first_pages_count_letters_and_queues(vhost: str, operator: Operator) -> None:
    """The overview leads to the letters; a queue without its service is pointed out."""
    await rejected(vhost, "m-1", "m-2")

    async def counted() -> bool:
        return f"2 in {LETTERS}" in (await operator.get("/")).words

    await until(counted)
    listed = await operator.get("/dead-letters")
    overview = await operator.get("/")

    assert f"{LETTERS} 2" in listed.words
    assert "none: start the service ledger" in overview.words
    # The console's own questions may wait there, too.
    assert re.search(r"nothing reads webhooks\.questions[^:]*: start webhooks", overview.words)
    assert "the queue sender.otp is missing: run ops topology declare" in overview.words
    assert "is missing: run ops topology declare" in overview.words


async def test_all_letters_of_a_cause_go_back_to_their_queue(
    vhost: str, operator: Operator
) -> None:
    """They are handled again, each once, and those of another cause stay."""
    await handled(vhost, fail, 1, mail("m-1"))
    await handled(vhost, refuse, 3, mail("m-2"), mail("m-3"))
    sender = FakeService()
    shown = await operator.act(PATH, PATH, act="replay", cause="rejected", reason=REASON)
    subscription = Subscription(QUEUE, {SendEmail: sender}, prefetch=10)
    async with Broker.connect(vhost, "sender") as broker, broker.consuming(subscription):
        await settled(vhost, LETTERS, 1)

        async def came() -> bool:
            return len(sender.got) == 2

        await until(came)

    assert "2 sent back" in shown.words
    audit = (await operator.get("/audit")).words
    assert f"{LETTERS}: all of rejected: {REASON} 2 sent back" in audit
    assert re.search(r"five seconds: (m-2, m-3|m-3, m-2) operator", audit)
    assert {each.id for each in sender.got} == {"m-2", "m-3"}
    assert "exhausted" in (await operator.get(PATH)).words


async def test_one_letter_is_dropped_for_good(vhost: str, operator: Operator) -> None:
    """The others stay, and the audit knows who did it."""
    await rejected(vhost, "m-1", "m-2")
    pages = [await operator.get(PATH), await operator.get(f"{PATH}/m-1")]
    shown = await operator.act(PATH, PATH, act="drop", id="m-1")
    audit = await operator.get("/audit")

    assert all(DROPPED_MAIL in each.words for each in pages)
    assert "1 dropped" in shown.words
    assert "m-1" not in shown.words
    assert "m-2" in shown.words
    await settled(vhost, LETTERS, 1)
    assert f"drop dead letters {LETTERS}: m-1 1 dropped operator 127.0.0.1" in audit.words


async def test_the_id_of_a_foreign_message_may_have_a_slash(vhost: str, operator: Operator) -> None:
    """The link to it leads to it, and all that is done with it names it."""
    await publish_raw(vhost, LETTERS, b"{}", "email.send.bulk", message_id="a/b?c%d")
    page = await operator.get(PATH)
    link = page.text.partition(f'<a href="{PATH}/')[2].partition('"')[0]
    async with operator.http.get(URL(f"{operator.url}{PATH}/{link}", encoded=True)) as answer:
        letter = await answer.text()
    dropped = await operator.act(PATH, PATH, act="drop", id="a/b?c%d")
    audit = await operator.get("/audit")

    assert link == "a%2Fb%3Fc%25d"
    assert answer.status == 200
    assert "<dt>Id</dt><dd>a/b?c%d</dd>" in letter
    assert f"{LETTERS}: a/b?c%d 1 dropped" in audit.words
    assert "1 dropped" in dropped.words


async def test_a_letter_of_unknown_origin_cannot_go_back(vhost: str, operator: Operator) -> None:
    """It is kept, and can be dropped."""
    await publish_raw(vhost, LETTERS, b"{}", "email.send.bulk")
    fields = {"cause": "unknown", "reason": ""}
    kept = await operator.act(PATH, PATH, act="replay", **fields)
    dropped = await operator.act(PATH, PATH, act="drop", **fields)

    assert "0 sent back" in kept.words
    assert "1 kept, since their queue is unknown" in kept.words
    assert "1 dropped" in dropped.words


async def test_nothing_is_read_but_dead_letters(operator: Operator) -> None:
    """A path with the name of a queue of work shows nothing of it, and empties nothing."""
    for queue in (QUEUE, topology.LEDGER_QUESTIONS, "nothing"):
        path = f"/dead-letters/{queue}"
        assert (await operator.get(path)).status == 404
        assert (await operator.act(PATH, path, act="drop", cause="x")).status == 404
    assert (await operator.act(PATH, PATH, act="burn", id="m-1")).status == 400
