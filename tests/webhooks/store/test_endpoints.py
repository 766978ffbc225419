"""Endpoints in both databases: created, changed, found by their owners alone, with two secrets."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from services.webhooks.store.tables import endpoints, removed_clients
from services.webhooks.store.upkeep import REMOVED_SPAN
from shared.contracts import (
    Category,
    ChangeWebhook,
    ClientRemoved,
    CreateWebhook,
    DisabledFor,
    ListWebhooks,
    RotateWebhookSecret,
    WebhookResult,
)
from shared.storage.database import Database
from tests.webhooks.store.tables import MAX_ENDPOINTS, SEALER, URL, Tables

DAY = 86_400
REGISTERED = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)
AGAIN = REGISTERED + timedelta(days=1)
REMOVED = ClientRemoved(id="r1", at=AGAIN, client="shop", registered_at=REGISTERED)
ROTATE = RotateWebhookSecret(id="q", client="shop", webhook_id="w1", old_seconds=DAY)


async def test_an_endpoint_is_kept_as_it_was_asked_for(tables: Tables) -> None:
    """Its secret is in the answer to its creation alone."""
    asked = CreateWebhook(
        id="w1",
        client="shop",
        url=URL,
        events=("email.*", "code.issued"),
        categories=(Category.BULK,),
        tags=("run", "run:1"),
        description="the shop",
    )
    created = await tables.endpoints.create(asked)
    found = await tables.found()

    assert created.result is WebhookResult.CREATED
    assert created.webhook == found
    assert created.secret is not None
    assert created.secret.startswith("whsec_")
    assert (found.url, found.events) == (URL, ("email.*", "code.issued"))
    assert (found.categories, found.tags) == ((Category.BULK,), ("run", "run:1"))


async def test_no_secret_is_in_the_database(tables: Tables) -> None:
    """It is sealed, for its own endpoint: one that is copied to another row cannot be opened."""
    created = await tables.endpoints.create(
        CreateWebhook(id="w1", client="shop", url=URL, events=("email.*",))
    )
    database: Database = tables.endpoints._database
    sealed = await database.read(lambda c: c.scalars(sa.select(endpoints.c.secret)).one())

    assert created.secret is not None
    assert created.secret.removeprefix("whsec_") not in sealed
    assert len(SEALER.open(sealed, "w1")) == 32


async def test_a_client_has_so_many_endpoints(tables: Tables) -> None:
    """One more is refused, and another client's do not count."""
    for number in range(MAX_ENDPOINTS):
        await tables.add(f"w{number}")
    more = CreateWebhook(id="more", client="shop", url=URL, events=("email.*",))

    assert (await tables.endpoints.create(more)).result is WebhookResult.TOO_MANY
    await tables.add("w9", "bank")


async def test_an_owner_alone_finds_an_endpoint(tables: Tables) -> None:
    """No other client can read, change, delete it or make it a secret; the administrator can."""
    await tables.add()
    change = ChangeWebhook(id="q", client="bank", webhook_id="w1", description="mine")
    rotate = ROTATE.model_copy(update={"client": "bank"})
    results = [
        (await tables.endpoints.change(change)).result,
        (await tables.endpoints.rotate(rotate)).result,
    ]
    page, _ = await tables.endpoints.page(ListWebhooks(id="q", client="bank"))
    everything, _ = await tables.endpoints.page(ListWebhooks(id="q"))

    assert await tables.endpoints.find("bank", "w1") is None
    assert not await tables.endpoints.delete("bank", "w1")
    assert results == [WebhookResult.UNKNOWN] * 2
    assert list(page) == []
    assert [each.webhook_id for each in everything] == ["w1"]


async def test_endpoints_are_listed_by_pages(tables: Tables) -> None:
    """Each is in one page."""
    for name in ("w2", "w1", "w3"):
        await tables.add(name)
    first, after = await tables.endpoints.page(ListWebhooks(id="q", client="shop", limit=2))
    last, end = await tables.endpoints.page(
        ListWebhooks(id="q", client="shop", limit=2, after=after)
    )

    assert [each.webhook_id for each in (*first, *last)] == ["w1", "w2", "w3"]
    assert end is None


async def test_endpoints_that_fail_are_listed_alone(tables: Tables) -> None:
    """They fail, or were disabled for it; one that its owner has disabled needs nobody."""
    for name in ("w1", "w2", "w3"):
        await tables.add(name)
    await tables.keep("e1")
    statuses = {"w1": 500, "w2": 410, "w3": 500}
    for due in await tables.take():
        await tables.end(due, statuses[due.endpoint_id])
    await tables.endpoints.change(
        ChangeWebhook(id="q", client="shop", webhook_id="w3", enabled=False)
    )
    found, _ = await tables.endpoints.page(ListWebhooks(id="q", failing=True))

    assert [(each.webhook_id, each.disabled_for) for each in found] == [
        ("w1", None),
        ("w2", DisabledFor.GONE),
    ]


async def test_a_change_leaves_the_rest(tables: Tables) -> None:
    """An absent field stays; an empty list removes a filter."""
    await tables.add(tags=["run"], description="old")
    changed = await tables.endpoints.change(
        ChangeWebhook(id="q", client="shop", webhook_id="w1", tags=(), url=URL + "/new")
    )

    assert changed.webhook is not None
    assert (changed.webhook.url, changed.webhook.tags) == (URL + "/new", ())
    assert (changed.webhook.description, changed.webhook.events) == ("old", ("email.*",))


async def test_an_owner_disables_and_enables_an_endpoint(tables: Tables) -> None:
    """It begins without failures, and no administrator is told of it."""
    await tables.add()
    await tables.keep("e1")
    [due] = await tables.take()
    await tables.end(due, 500)
    change = ChangeWebhook(id="q", client="shop", webhook_id="w1", enabled=False)
    disabled = (await tables.endpoints.change(change)).webhook
    again = change.model_copy(update={"enabled": True})
    enabled = (await tables.endpoints.change(again)).webhook

    assert disabled is not None
    assert disabled.disabled_for is DisabledFor.OWNER
    assert enabled is not None
    assert (enabled.disabled_at, enabled.disabled_for, enabled.failures) == (None, None, 0)
    assert list(await tables.upkeep.unannounced()) == []


async def test_a_new_url_is_tried_at_once(tables: Tables) -> None:
    """The failures were those of another receiver: the new one waits for nothing, nor is blamed."""
    await tables.add()
    await tables.keep("e1", "e2", "e3", "e4")
    for due in await tables.take():
        await tables.end(due, 500)
    change = ChangeWebhook(id="q", client="shop", webhook_id="w1", url=URL)
    same = (await tables.endpoints.change(change)).webhook
    unchanged = await tables.take()
    moved = (await tables.endpoints.change(change.model_copy(update={"url": URL + "/new"}))).webhook
    await tables.upkeep.spread()

    assert same is not None
    assert (same.failures, unchanged) == (4, [])
    assert moved is not None
    assert (moved.failures, moved.failing_since) == (0, None)
    assert [due.url for due in await tables.take()] == [URL + "/new"] * 4


async def test_a_secret_is_rotated(tables: Tables) -> None:
    """Both sign until the time is over; a third is refused until then, unless it replaces both."""
    await tables.add()
    rotated = await tables.endpoints.rotate(ROTATE)
    await tables.keep("e1")
    [due] = await tables.take()
    third = await tables.endpoints.rotate(ROTATE)
    replaced = await tables.endpoints.rotate(ROTATE.model_copy(update={"old_seconds": 0}))
    alone = (await tables.found()).old_secret_until
    await tables.endpoints.rotate(ROTATE)
    tables.clock.seconds += DAY + 1
    await tables.keep("e2")
    late = (await tables.take())[-1]

    assert rotated.secret is not None
    assert due.old_secret is not None
    assert SEALER.open(due.secret, "w1") != SEALER.open(due.old_secret, "w1")
    assert (third.result, third.secret) == (WebhookResult.TOO_MANY_SECRETS, None)
    assert replaced.result is WebhookResult.CHANGED
    assert alone is None
    assert late.old_secret is None


async def test_the_endpoints_of_a_removed_client_are_deleted(tables: Tables) -> None:
    """With what waits for them; those of others stay, and those of an earlier version go too."""
    await tables.add("w1", registered_at=REGISTERED)
    await tables.add("w2")
    await tables.add("w3", "bank", registered_at=REGISTERED)
    await tables.add("w4", None)
    await tables.keep("e1")
    deleted = [sorted(await tables.endpoints.remove_client(REMOVED)) for _ in range(2)]
    due = await tables.take()
    await tables.upkeep.purge()
    left, _ = await tables.endpoints.page(ListWebhooks(id="q"))

    assert deleted == [["w1", "w2"], []]
    assert [each.webhook_id for each in left] == ["w3", "w4"]
    assert [each.endpoint_id for each in due] == ["w4"]


async def test_a_client_that_is_registered_again_keeps_its_endpoints(tables: Tables) -> None:
    """In any order: the removal of the client before may arrive late, and twice."""
    await tables.add("w1", registered_at=REGISTERED)
    await tables.add("w2", registered_at=AGAIN)
    deleted = [await tables.endpoints.remove_client(REMOVED) for _ in range(2)]
    added = await tables.add("w3", registered_at=AGAIN)

    assert deleted == [["w1"], []]
    assert (await tables.found("w2")).client == "shop"
    assert await tables.found("w3") == added


async def test_a_removed_client_adds_no_endpoint(tables: Tables, other: Tables) -> None:
    """A request that was under way at its removal is refused, also after a later removal."""
    asked = CreateWebhook(
        id="w1", client="shop", registered_at=REGISTERED, url=URL, events=("email.*",)
    )
    later = REMOVED.model_copy(update={"registered_at": AGAIN})
    await tables.endpoints.remove_client(later)
    await tables.endpoints.remove_client(REMOVED)

    assert (await other.endpoints.create(asked)).result is WebhookResult.NO_CLIENT
    assert await tables.endpoints.find(None, "w1") is None


async def test_a_removal_is_forgotten_once_no_request_is_under_way(tables: Tables) -> None:
    """The table of removed clients does not grow for ever."""
    database: Database = tables.endpoints._database
    count = sa.select(sa.func.count()).select_from(removed_clients)
    await tables.endpoints.remove_client(REMOVED)
    tables.clock.seconds += REMOVED_SPAN.total_seconds()
    await tables.upkeep.purge()
    kept = await database.read(lambda c: c.scalar(count))
    tables.clock.seconds += 1
    await tables.upkeep.purge()

    assert (kept, await database.read(lambda c: c.scalar(count))) == (1, 0)
