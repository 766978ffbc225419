"""Recipients and times of a command to send a mail."""

import json

import pytest

from shared.contracts import AcceptedEmail, SendEmail, decode, encode
from shared.contracts.fields import MAX_RECIPIENTS
from shared.errors import Undecodable
from tests.shared.messages import body, send_email


def test_pending_recipients_go_before_the_headers() -> None:
    """A second attempt is for the recipients that the first left over, each once."""
    several = body(
        to=["ann@example.org", "Bob <bob@EXAMPLE.org>"],
        pending=["bob@example.org", "bob@Example.org"],
    )

    assert send_email(several).recipients == ("bob@example.org",)


@pytest.mark.parametrize(
    ("pending", "reason"),
    [
        (["eve@example.org"], "body: must have no pending recipients that are not in to, cc"),
        (["ann@example.org", "eve@example.org"], "body: must have no pending"),
        ([], "pending: "),
        ([f"a{number}@example.org" for number in range(MAX_RECIPIENTS + 1)], "pending: .*at most"),
    ],
    ids=["stranger", "one stranger", "nobody", "too many"],
)
def test_pending_recipients_are_some_of_the_header_s(pending: list[str], reason: str) -> None:
    """A publisher cannot mail to hundreds past the limit, or let a mail end without an outcome.

    Issue 10, A7.
    """
    with pytest.raises(Undecodable, match=reason):
        send_email(body(pending=pending))


@pytest.mark.parametrize(
    "zero", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59+00:00", "-62135596800"]
)
@pytest.mark.parametrize("field", ["created_at", "expires_at"])
def test_the_zero_time_of_a_language_is_no_time(field: str, zero: str) -> None:
    """The year 1, which Go writes for a time that is not set, counts as absent (issue 10, S6)."""
    assert getattr(send_email(body(**{field: zero})), field) is None


def test_there_is_a_limit_of_recipients() -> None:
    """To, Cc and Bcc together are no more than every server must accept."""
    many = [f"a{number}@example.org" for number in range(MAX_RECIPIENTS)]
    assert len(send_email(body(to=many)).recipients) == MAX_RECIPIENTS

    with pytest.raises(Undecodable, match="at most 100 recipients"):
        send_email(body(to=many, bcc="one@example.org"))


def test_a_single_reply_to_stays_a_text_on_the_wire() -> None:
    """A sender of an older release reads one mailbox; a list is only written for several."""
    one, several = "a@x.example", ["a@x.example", "Bob <b@x.example>"]

    for given, written in ((one, one), ([one], one), (several, several), ([], None), (None, None)):
        command = send_email(body(reply_to=given))

        assert json.loads(encode(command)).get("reply_to") == written
        assert send_email(encode(command)) == command


@pytest.mark.parametrize("category", ["otp", "transactional"])
def test_only_bulk_mail_belongs_to_a_list(category: str) -> None:
    """A mail that no opt-out would stop names no list."""
    bulk = decode("email.send.bulk", body(list_id="news", category="bulk"))
    assert isinstance(bulk, SendEmail)
    assert bulk.list_id == "news"

    with pytest.raises(Undecodable, match="must be bulk to have a `list_id`"):
        decode(f"email.send.{category}", body(list_id="news", category=category))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tags": [{"name": "a", "value": "x"}, {"name": "a", "value": "y"}]}, "a name of its own"),
        ({"tags": [{"name": f"t{i}", "value": "x"} for i in range(11)]}, "at most 10"),
        ({"tags": [{"name": "a b", "value": "x"}]}, "tags.0.name"),
        ({"tags": [{"name": "a", "value": ""}]}, "tags.0.value"),
        ({"tags": [{"name": "a", "value": "x" * 257}]}, "at most 256"),
        ({"metadata": {f"k{i}": "x" for i in range(21)}}, "at most 20"),
        ({"metadata": {"k" * 41: "x"}}, "at most 40"),
        ({"metadata": {"": "x"}}, "its name must not be empty"),
        ({"metadata": {"k\n": "x"}}, "no control characters"),
        ({"metadata": {"k": "x" * 501}}, "at most 500"),
        ({"metadata": {"k": "a\u2028b"}}, "no control characters"),
        ({"metadata": {"k": 5}}, "metadata.k"),
        ({"reply_to": [f"a{i}@x.example" for i in range(11)]}, "at most 10"),
    ],
)
def test_labels_have_limits(fields: dict[str, object], reason: str) -> None:
    """Tags and metadata are few and short, so that every event can repeat them."""
    with pytest.raises(Undecodable, match=reason):
        send_email(body(**fields))


COPIED = {
    "category": "bulk",
    "from": "Shop <shop@shop.example>",
    "to": ["Ann <ann@EXAMPLE.org>", "bob@example.org"],
    "cc": "ann@example.org",
    "bcc": ["eve@example.org"],
    "tags": [{"name": "kind", "value": "news"}],
    "metadata": {"order": "7"},
    "list_id": "weekly",
    "client": "shop",
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": "0001-01-01T00:00:00Z",
}


def test_the_ledger_s_copy_has_the_fields_of_the_command() -> None:
    """The ledger keeps the fields as the sender reads them, and the size of the whole."""
    raw = body(**COPIED)
    command = decode("email.send.bulk", raw)
    copy = decode("email.send.bulk", raw, (AcceptedEmail,))

    assert isinstance(command, SendEmail)
    assert isinstance(copy, AcceptedEmail)
    assert copy.recipients == command.recipients
    fields = [each for each in AcceptedEmail.model_fields if each != "size_bytes"]
    assert {each: getattr(copy, each) for each in fields} == {
        each: getattr(command, each) for each in fields
    }
    assert copy.size_bytes == len(raw)
    assert copy.routing_key == command.routing_key


def test_the_ledger_s_copy_skips_the_content() -> None:
    """Content that the sender will refuse is no reason not to record the mail."""
    raw = body(attachments=[{"filename": "a", "content": "not base64!"}], size_bytes=7)
    copy = decode("email.send.transactional", raw, (AcceptedEmail,))

    assert isinstance(copy, AcceptedEmail)
    assert copy.size_bytes == len(raw)


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": []},
        {"to": ["nobody"]},
        {"subject": "a\nb"},
        {"to": ["a@b.example"] * MAX_RECIPIENTS, "cc": ["c@b.example"]},
    ],
    ids=["nobody", "no address", "subject", "too many"],
)
def test_the_ledger_s_copy_refuses_what_no_sender_sends(wrong: dict[str, object]) -> None:
    """A recipient that no outcome can name is not recorded."""
    with pytest.raises(Undecodable):
        decode("email.send.transactional", body(**wrong), (AcceptedEmail,))
