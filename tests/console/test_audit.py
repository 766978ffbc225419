"""The audit: each action before and after it is done."""

import pytest

from services.console.audit import Audit
from services.console.operators import LoginWay
from services.console.sessions import Session
from services.console.store import MIGRATIONS, ActionStore
from shared.errors import Retry
from tests.databases import Opener

SESSION = Session("s-1", "ann", may_act=True, expires_at=0.0, way=LoginWay.TOKEN)


class LostStore(ActionStore):
    """A store whose database is away once an action is done."""

    async def finish(self, identifier: str, result: str) -> None:
        """Fail as without the database."""
        raise Retry(f"no database for {identifier}: {result}")


async def test_an_action_that_is_done_is_no_failure_without_its_record(
    open_database: Opener,
) -> None:
    """Its operator sees the result, such as a key that is shown once."""
    store = LostStore(await open_database("console", MIGRATIONS), 30)
    async with Audit(store, lambda: "a-1").acting(SESSION, "::1", "make key", "shop") as result:
        result.text = "created"
    (kept,) = await store.page(10)

    assert (kept.action, kept.result) == ("make key", None)


async def test_the_failure_of_an_action_is_what_its_operator_sees(open_database: Opener) -> None:
    """It is not hidden by that of its record."""
    store = LostStore(await open_database("console", MIGRATIONS), 30)
    audit = Audit(store, lambda: "a-1")
    with pytest.raises(ValueError, match="no such key"):
        async with audit.acting(SESSION, "::1", "revoke key", "shop"):
            raise ValueError("no such key")


async def test_the_words_beside_an_address_are_kept(open_database: Opener) -> None:
    """Of a subject and a detail each address is masked; a reason and an odd id are readable."""
    store = ActionStore(await open_database("console", MIGRATIONS), 30)
    audit = Audit(store, lambda: "a-1")
    subject = "sender.bulk.dead: all of rejected: ada@example.org is 100% wrong"
    async with audit.acting(SESSION, "::1", "drop dead letters", subject) as result:
        result.text, result.detail = "2 dropped", ": a%2Fb, ada%2540example.org"
    (kept,) = await store.page(10)

    assert kept.subject == "sender.bulk.dead: all of rejected: a***@example.org is 100% wrong"
    assert kept.result == "2 dropped: a%2Fb, ***"
