"""Tests of the mail of a subscription for one period."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.scheduler.content import Content
from services.scheduler.newsletters import NewsletterMaker, list_id
from services.scheduler.recurrence import Recurrence
from services.scheduler.store.due import DueSubscription
from shared.contracts import Category, Missed, SendEmail, encode
from shared.contracts.address import MAX_ADDRESS_OCTETS
from shared.contracts.content import NewsletterId, run_id
from shared.contracts.fields import ID, MAX_ID_CHARS
from shared.links import MAX_HOST_CHARS, MAX_URL_CHARS, LinkKind, Links
from shared.runtime.sealing import Sealer
from shared.template import VariableMistake
from tests.scheduler.conftest import LINK_KEY, PUBLIC_URL

PERIOD = datetime(2026, 3, 1, 8, tzinfo=UTC)
NOW = PERIOD + timedelta(seconds=20)
ANN = DueSubscription(
    id="0f" * 16,
    client="shop",
    content_type="news",
    email="ann@example.org",
    recurrence=Recurrence("@daily"),
    variables='{"name":"Ann"}',
    missed=Missed.LATEST,
    retries=3,
    locale="de",
    period=PERIOD,
)


@dataclass(frozen=True)
class Press:
    """A maker of newsletters, and what it makes."""

    url: str = PUBLIC_URL

    @property
    def links(self) -> Links:
        """The links of its mails."""
        return Links(self.url, Sealer.from_text(LINK_KEY))

    def make(self, due: DueSubscription = ANN, html: str = "<p>Hi {{ name }}</p>") -> SendEmail:
        """Return a mail."""
        content = Content(
            due.content_type,
            *(None, 1),
            paused=False,
            subject="News for {{ name }}",
            html=html,
            text=None,
        )
        maker = NewsletterMaker(self.links, "News <news@shop.example>")
        begun = maker.begin(due, content, PERIOD, NOW)
        return maker.finish(begun, begun.request.make())


def test_the_fields_of_a_newsletter() -> None:
    """A newsletter is bulk mail of its list, with the id of its period, and can be told apart."""
    mail = Press().make()

    assert mail.id == f"{ANN.id}.20260301T080000Z"
    assert (mail.category, mail.client, mail.list_id) == (Category.BULK, "shop", "news")
    assert (mail.to, mail.from_) == (("ann@example.org",), "News <news@shop.example>")
    assert (mail.subject, mail.retries, mail.created_at) == ("News for Ann", 3, NOW)
    assert mail.metadata == {"subscription": ANN.id, "content_type": "news"}
    assert [(tag.name, tag.value) for tag in mail.tags] == [("run", run_id("news", PERIOD))]


def test_a_newsletter_is_a_valid_command() -> None:
    """A newsletter, which is made without checks, passes those of the sender."""
    mail = Press().make()

    assert SendEmail.read(encode(mail)) == mail


def test_the_link_unsubscribes() -> None:
    """The link names the subscription, works a year, and stands in headers, HTML and text."""
    mail = Press().make()
    link = mail.headers["List-Unsubscribe"].strip("<>")
    found = Press().links.read(LinkKind.UNSUBSCRIBE, link.rpartition("/")[2], NOW)

    assert found is not None
    assert (found.client, found.email, found.content_type, found.locale) == (
        *("shop", "ann@example.org", "news", "de"),
    )
    assert found.expires_at == NOW + timedelta(days=365)
    assert mail.headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail.headers["List-Id"] == "<news.shop.mail.example>"
    assert link in (mail.html or "")
    assert link in (mail.text or "")


@pytest.mark.parametrize(
    ("client", "name", "label"),
    [
        ("shop", "news", "news.shop"),
        ("bakery", "news", "news.bakery"),
        ("", "news", "news"),
        ("shop", "news_of.today", "news-of-today-137d1ddafdfc.shop"),
        ("shop", "News", "news-69752f2313b2.shop"),
        ("Shop", "news", "news.shop-d00aae6b7fbf"),
    ],
)
def test_the_id_of_a_list(client: str, name: str, label: str) -> None:
    """A list's id is a name below the host of its links, which can be read (RFC 2919 2)."""
    assert list_id(client, name, "mail.example") == f"{label}.mail.example"


_NAMES = st.from_regex(ID, fullmatch=True).filter(lambda name: "\n" not in name)


@given(_NAMES, _NAMES, _NAMES, _NAMES)
@example("shop", "a.b", "shop", "a-b")
@example("shop", "news", "SHOP", "NEWS")
@example("shop", "A", "shop", f"a-{sha256(b'A').hexdigest()[:12]}")
@example("c" * MAX_ID_CHARS, "n" * MAX_ID_CHARS, "c" * 63, "n" * 63)
def test_each_client_and_list_has_an_id_of_its_own(
    client: str, name: str, other_client: str, other_name: str
) -> None:
    """No two lists share an id, also where case is ignored, and each label fits a domain name."""
    host = "h" * MAX_HOST_CHARS
    one, other = list_id(client, name, host), list_id(other_client, other_name, host)

    assert (one == other) == ((client, name) == (other_client, other_name))
    assert one == one.lower()
    assert len(one) <= 255
    assert all(re.fullmatch("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", it) for it in one.split(".")[:-1])


def test_a_link_without_tls_is_no_one_click_link() -> None:
    """RFC 8058 3.1 demands https of a link that mail programs follow by themselves."""
    assert "List-Unsubscribe-Post" not in Press("http://mail.example").make().headers


def test_a_subscription_may_have_a_variable_of_the_links_name() -> None:
    """A variable of the subscription never takes the place of the link."""
    due = ANN._replace(variables='{"name":"Ann","unsubscribe_url":"https://evil.example"}')
    mail = Press().make(due, '<a href="{{ unsubscribe_url }}">Stop</a>')

    assert "evil" not in (mail.html or "")


def test_variables_that_do_not_fit() -> None:
    """A mail whose variables are missing is not made."""
    with pytest.raises(VariableMistake, match="name"):
        Press().make(ANN._replace(variables="{}"))


def test_the_longest_link_fits_its_header_line() -> None:
    """A link is one word, which no line folds: 998 octets are the limit (RFC 5322 2.1.1)."""
    domain = ".".join(["d" * 60] * 3)
    longest = ANN._replace(
        client="c" * MAX_ID_CHARS,
        content_type="t" * MAX_ID_CHARS,
        email=f"{'l' * (MAX_ADDRESS_OCTETS - len(domain) - 5)}@{domain}.org"[-MAX_ADDRESS_OCTETS:],
        locale="de-" + "x" * 32,
    )
    url = "https://" + "u" * (MAX_URL_CHARS - len("https://.example")) + ".example"
    header = Press(url).make(longest).headers["List-Unsubscribe"]

    assert len(longest.email) == MAX_ADDRESS_OCTETS
    assert len(f"List-Unsubscribe: {header}") <= 998


@pytest.mark.parametrize("repetition", [0, 1, 25])
def test_the_id_of_a_newsletter_is_read_again(repetition: int) -> None:
    """A mail's id names its subscription, its period and its repetition."""
    made = NewsletterId(ANN.id, PERIOD, repetition)

    assert NewsletterId.read(str(made)) == made
    assert NewsletterId.read(str(made.again())) == made._replace(repetition=repetition + 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m1",
        ANN.id,
        f"{ANN.id}.20260230T080000Z",
        f"{ANN.id}.20260301T080000Z.0",
        f"{ANN.id}.20260301T080000Z.paused",
        f"x{ANN.id}.20260301T080000Z",
    ],
)
def test_ids_of_other_mails(text: str) -> None:
    """No other mail is taken for a newsletter."""
    assert NewsletterId.read(text) is None


def test_periods_of_other_zones_have_one_id() -> None:
    """An id is that of the moment, in whichever zone it is given."""
    berlin = Recurrence("@daily", "Europe/Berlin", "09:00")

    assert str(NewsletterId(ANN.id, berlin.last(PERIOD, PERIOD))) == f"{ANN.id}.20260301T080000Z"
