"""The guard of the pages: sessions, forms of other sites, headers."""

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from yarl import URL

from services.console import service
from services.console.app import UNGUARDED
from services.console.context import MAX_FORM_BYTES
from services.console.login import COOKIE, MAX_LOGINS
from services.console.operators import OPERATOR_NAME, LoginWay, Operators
from services.console.rendering import NAVIGATION, STATIC_FILES
from services.console.sessions import Sessions
from shared.contracts import RemoveSuppressions
from tests.console.answers import Answers, answering
from tests.console.operator import SESSION_KEY, TOKEN, Operator, declare, settings, visiting

pytestmark = pytest.mark.rabbit
DROP = {"act": "drop", "cause": "rejected", "reason": "x"}
LETTERS = "/dead-letters/sender.bulk.dead"
PROVIDER = {
    "console_url": "http://127.0.0.1",
    "console_oidc_issuer": "https://id.example",
    "console_oidc_client_id": "console",
    "console_oidc_viewers": ["ann"],
}
OPERATORS = Operators(TOKEN, "https://id.example", viewers=["ann"])


def cookie_of(operator: Operator) -> str:
    """Return the cookie of a session."""
    (found,) = (each.value for each in operator.http.cookie_jar if each.key == COOKIE)
    return found


def hold(operator: Operator, cookie: str) -> None:
    """Put the cookie of a session into a browser."""
    operator.http.cookie_jar.update_cookies({COOKIE: cookie}, URL(operator.url))


async def test_without_a_session_there_is_nothing_but_the_login(visitor: Operator) -> None:
    """Every page leads to the login and then back to the page."""
    for path in (*NAVIGATION, "/traffic.json", LETTERS):
        shown = await visitor.get(path)
        assert "/login" in shown.url, path
    part = await visitor.get("/audit", **{"HX-Request": "true"})
    back = await visitor.log_in(target="/audit")

    assert (part.status, part.headers["HX-Redirect"]) == (401, "/login?next=/audit")
    assert back.url.endswith("/audit")
    assert back.status == 200


async def test_every_page_is_in_the_navigation_and_has_the_headers(
    answers: Answers, operator: Operator
) -> None:
    """A page allows nothing inline and nothing from elsewhere, and is not cached."""
    del answers
    for path in (*NAVIGATION, *STATIC_FILES, "/nowhere"):
        shown = await operator.get(path)

        assert shown.status == (404 if path == "/nowhere" else 200), shown.text
        policy = shown.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert not re.search("unsafe|http:|https:|[*]", policy)
        assert shown.headers["X-Content-Type-Options"] == "nosniff"
        assert shown.headers["Server"] == "postrider"
        cached = "no-cache" if path in STATIC_FILES else "no-store"
        assert shown.headers["Cache-Control"] == cached
        assert not re.search(r"<(script|style)>| on\w+=| style=", shown.text) or ".js" in path


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(
    vhost: str, tmp_path: Path
) -> None:
    """It is HttpOnly and SameSite, and Secure where operators come by https."""
    await declare(vhost)
    given = settings(vhost, tmp_path, console_url="https://ops.example")
    async with visiting(given) as visitor:
        fields = {"token": TOKEN, "next": "/"}
        async with visitor.http.post(
            f"{visitor.url}/login", data=fields, allow_redirects=False
        ) as answer:
            cookie = answer.cookies[COOKIE]

    assert (cookie["httponly"], cookie["samesite"], cookie["secure"]) == (True, "Lax", True)
    assert cookie["max-age"] == str(8 * 3600)


async def test_a_wrong_token_begins_no_session(visitor: Operator) -> None:
    """It is refused with what to do, and without the token that was right."""
    refused = await visitor.log_in("wrong")
    page = await visitor.get("/")

    assert refused.status == 403
    assert "CONSOLE_TOKEN" in refused.text
    assert TOKEN not in refused.text
    assert "/login" in page.url


async def test_an_address_may_not_guess_for_ever(
    vhost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some tries in a time even the right token has to wait."""
    monkeypatch.setattr(service, "LOGINS_SECONDS", 1_000_000.0)  # however slow this machine is
    await declare(vhost)
    async with visiting(settings(vhost, tmp_path)) as visitor:
        statuses = [(await visitor.log_in("wrong")).status for _ in range(MAX_LOGINS)]
        late = await visitor.log_in()

    assert set(statuses) == {403}
    assert late.status == 429
    assert "Try again in" in late.words


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example"])
async def test_the_login_leads_to_no_other_site(visitor: Operator, target: str) -> None:
    """A link to the login cannot lead elsewhere after it."""
    shown = await visitor.log_in(target=target)

    assert shown.url == f"{visitor.url}/"


async def test_a_form_needs_the_token_of_its_session(operator: Operator) -> None:
    """A form without the token, or with one of another session, does nothing."""
    for token in ("", "0" * 64):
        refused = await operator.post(LETTERS, {**DROP, "form_token": token})
        assert refused.status == 403

    assert "Nothing yet" in (await operator.get("/audit")).words


@pytest.mark.parametrize(
    "header", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}]
)
async def test_a_form_of_another_site_is_refused(
    operator: Operator, header: dict[str, str]
) -> None:
    """The browser tells where a form is from, also that of the login."""
    token = (await operator.get("/")).form_token
    action = await operator.post(LETTERS, {**DROP, "form_token": token}, header)
    login = await operator.post("/login", {"token": TOKEN}, header)

    assert (action.status, login.status) == (403, 403)


async def test_a_copy_of_the_cookie_is_worth_nothing_after_the_logout(
    vhost: str, tmp_path: Path
) -> None:
    """The session ends at every console of the database, and stays ended after a restart."""
    await declare(vhost)
    given = settings(vhost, tmp_path)
    async with visiting(given) as operator, visiting(given) as thief:
        await operator.log_in()
        copy = cookie_of(operator)
        hold(thief, copy)
        stolen = await thief.get("/audit")
        await operator.act("/", "/logout")
        pages = [await operator.get("/"), await thief.get("/audit")]
        hold(operator, copy)
        pages += [await operator.get("/"), await operator.post("/logout", {})]
    async with visiting(given) as thief:
        hold(thief, copy)
        pages.append(await thief.get("/audit"))

    assert stolen.url.endswith("/audit")
    assert all("/login" in each.url for each in pages)


async def test_without_the_database_the_logout_says_what_is_not_sure(
    operator: Operator, tmp_path: Path
) -> None:
    """Pages can be seen all the same; this console takes the cookie no more."""
    with closing(sqlite3.connect(tmp_path / "console.sqlite")) as database:
        database.execute("ALTER TABLE ended_sessions RENAME TO away")
    copy = cookie_of(operator)
    seen = await operator.get("/")
    left = await operator.act("/", "/logout")
    hold(operator, copy)

    assert (seen.status, left.status) == (200, 503)
    assert "You are logged out here. The console&#39;s database is away" in left.words
    assert "/login" in (await operator.get("/")).url


async def test_a_session_ends_with_its_token_and_its_place_on_the_list(
    vhost: str, tmp_path: Path
) -> None:
    """A new token, or a list without the operator, counts from the start of the console on."""
    await declare(vhost)
    sessions = Sessions.from_text(SESSION_KEY, 3600.0, time.time, lambda: "s-1", OPERATORS)
    cookies = [
        sessions.cookie(sessions.begin(*each))
        for each in ((OPERATOR_NAME, LoginWay.TOKEN), ("ann", LoginWay.PROVIDER))
    ]
    found = list[bool]()
    changes: list[dict[str, object]] = [
        {},
        {"console_token": f"another {TOKEN}"},
        {"console_oidc_viewers": []},
    ]
    for changed in changes:
        async with visiting(settings(vhost, tmp_path, **PROVIDER | changed)) as visitor:
            for each in cookies:
                hold(visitor, each)
                found.append("/login" not in (await visitor.get("/audit")).url)

    assert found == [True, True, False, True, True, False]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"form_token=x", "application/x-www-form-urlencoded; charset=nonsense", 400),
        (b"\xff=\x80", "application/x-www-form-urlencoded", 400),
        (b"--b\r\nbroken", "multipart/form-data; boundary=b", 415),
        (b"a=" + b"x" * MAX_FORM_BYTES, "application/x-www-form-urlencoded", 413),
    ],
)
async def test_a_form_of_no_page_is_refused(
    visitor: Operator, body: bytes, kind: str, status: int
) -> None:
    """A program that sends what no browser would causes no fault of the console."""
    headers = {"Content-Type": kind}
    async with visitor.http.post(f"{visitor.url}/login", data=body, headers=headers) as answer:
        assert answer.status == status


async def test_a_filter_that_nothing_can_have_is_explained_beside_it(
    answers: Answers, operator: Operator
) -> None:
    """The typed text is still there, and no list is shown."""
    del answers
    labels = {"/suppressions": "Address"}
    for path, name in (
        ("/messages", "recipient"),
        ("/suppressions", "email"),
        ("/subscriptions", "email"),
        ("/domains", "domain"),
        ("/webhooks", "client"),
        ("/content", "client"),
        ("/webhooks/w-1", "status"),
        ("/webhooks/w-1/tries", "message_id"),
    ):
        page = await operator.get(f"{path}?{name}=no%20such")

        assert page.status == 400, path
        assert f"Nothing was looked up: {labels.get(path, name)}: must" in page.words, path
        assert "<table>" not in page.text, path
        assert 'value="no such"' in page.text or name in {"status", "message_id"}, path


async def test_a_filter_that_a_page_does_not_have_is_not_ignored(
    answers: Answers, operator: Operator
) -> None:
    """A list of everything is no answer to a question about some."""
    del answers
    for path in ("/domains", "/messages", "/webhooks", "/content", "/subscriptions"):
        page = await operator.get(f"{path}?verdict=x")

        assert page.status == 400, path
        assert "Nothing was looked up: verdict: must be one of" in page.words, path


@pytest.mark.parametrize("query", ["9" * 5000, "1-%00", "%D9%A1-x", "1-%ED%A0%80", "x", "9" * 20])
async def test_a_page_of_the_audit_that_is_none_is_the_first(
    operator: Operator, query: str
) -> None:
    """A link that somebody has changed by hand is no fault of the console."""
    url = URL(f"{operator.url}/audit?before={query}", encoded=True)
    async with operator.http.get(url) as answer:
        assert answer.status == 200


async def test_an_address_that_is_too_long_is_refused_in_plain_words(visitor: Operator) -> None:
    """The answer has nothing of the library, such as its exception."""
    page = await visitor.get(f"/messages?tag={'x' * 20_000}")

    assert (page.status, page.text) == (400, "The address or a header is too long.\n")


async def test_health_needs_no_session(visitor: Operator) -> None:
    """An orchestrator asks without a login, and is told nothing else."""
    ready = await visitor.get("/readyz")

    assert ready.status == 200
    assert '"broker": true' in ready.text
    assert {"/readyz", "/healthz"} <= UNGUARDED


async def test_an_operator_who_may_only_look_sees_everything_and_changes_nothing(
    vhost: str, tmp_path: Path
) -> None:
    """There is no button, and a form that is sent all the same does nothing."""
    await declare(vhost)
    sessions = Sessions.from_text(SESSION_KEY, 3600.0, time.time, lambda: "s-1", OPERATORS)
    given = settings(vhost, tmp_path, **PROVIDER)
    async with visiting(given) as visitor, answering(vhost) as answers:
        hold(visitor, sessions.cookie(sessions.begin("ann", LoginWay.PROVIDER)))
        page = await visitor.get("/suppressions")
        fields = {"email": "ada@example.com", "form_token": page.form_token}
        refused = await visitor.post("/suppressions/remove", fields)
        fields = {"variables": "{}", "form_token": page.form_token}
        previews = [
            await visitor.post(f"/content/weekly/{each}", fields)
            for each in ("variables", "preview")
        ]

    assert page.status == 200
    assert "ann, who may look only" in page.words
    assert "<button>Suppress" not in page.text
    assert refused.status == 403
    assert [each.status for each in previews] == [200, 200]
    assert not any(isinstance(each, RemoveSuppressions) for each in answers.asked)


async def test_a_service_that_does_not_answer_is_named(vhost: str, tmp_path: Path) -> None:
    """The page says which service to look at, and the others still work."""
    await declare(vhost)
    async with visiting(settings(vhost, tmp_path, console_answer_seconds=0.1)) as operator:
        await operator.log_in()
        for path, name in (("/messages", "ledger"), ("/domains", "classifier")):
            away = await operator.get(path)
            assert away.status == 503
            assert f"The service {name} did not answer" in away.words
        assert (await operator.get("/audit")).status == 200
