"""The contracts: their wire form, what they refuse, and that nothing is lost."""

import json
import string
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts import (
    CONTRACTS,
    MAX_MISTAKES,
    Category,
    Contract,
    EmailDeferred,
    EmailDelivered,
    EmailUncertain,
    Event,
    SendEmail,
    VerifyCode,
    decode,
    encode,
    mistakes,
)
from shared.contracts.fields import MAX_RECIPIENTS, MAX_SUBJECT_CHARS
from shared.errors import Undecodable
from tests.shared.golden.examples import EXAMPLES, path_of
from tests.shared.golden.ledger_examples import AT
from tests.shared.messages import SMALLEST, body, send_email

KEYS = [key for contract in CONTRACTS for key in contract.keys]
UNSAFE = ("\r\nBcc: eve@example.org", "\n", "\r", "\x00", "\x85", "=?utf-8?Q?=0A?=")
# What JSON can carry and a subject or a body may hold.
CONTENT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))

FIELDS = sorted({name for contract in CONTRACTS for name in contract.model_fields} | {"from"})
JSON_OBJECTS = st.dictionaries(
    st.sampled_from(FIELDS),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
).map(lambda fields: json.dumps(fields).encode())


def test_every_contract_has_one_example() -> None:
    """A contract cannot be added without freezing its wire form."""
    assert Counter(type(example) for example in EXAMPLES) == Counter(CONTRACTS)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_examples_set_every_field(example: Contract) -> None:
    """A field that the example leaves out would not be frozen."""
    # A mail for later has other keys: see `test_a_mail_for_later_has_keys_of_its_own`. A whole mail
    # has no other content: see `test_bytes_of_a_whole_mail_are_frozen`.
    others = {"scheduled_at", "accepted_at", "mime", "message_id", "envelope_from"}
    left_out = others if isinstance(example, SendEmail) else set()

    assert example.model_fields_set == set(type(example).model_fields) - left_out


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_bytes_on_the_wire_are_frozen(example: Contract) -> None:
    """Other programs read these bytes: `python -m tests.shared.golden` changes them knowingly."""
    assert encode(example) + b"\n" == path_of(type(example)).read_bytes()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_golden_files_are_read(example: Contract) -> None:
    """A message of an older release is read as it was meant."""
    assert decode(example.routing_key, path_of(type(example)).read_bytes()) == example


def test_no_golden_file_is_left_over() -> None:
    """Each file belongs to a contract that exists."""
    folder = path_of(Contract).parent

    assert {path.stem for path in folder.glob("*.json")} == {each.__name__ for each in CONTRACTS}


def test_no_two_contracts_share_a_key() -> None:
    """The key alone decides how the body is read."""
    assert len(KEYS) == len(set(KEYS))


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_fields_that_are_unknown_are_ignored(contract: type[Contract]) -> None:
    """A newer publisher may add fields."""
    example = next(example for example in EXAMPLES if type(example) is contract)
    wire = json.loads(encode(example)) | {"added_later": {"deep": [1]}}

    assert decode(example.routing_key, json.dumps(wire).encode()) == example


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_contracts_are_frozen(contract: type[Contract]) -> None:
    """A message that two handlers see is the same for both."""
    example = next(example for example in EXAMPLES if type(example) is contract)

    with pytest.raises(ValidationError, match="frozen"):
        example.id = "other"  # type: ignore[misc] # it is what the test is about


@given(
    subject=st.text(
        st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=MAX_SUBJECT_CHARS
    ).filter(lambda text: "=?" not in text),
    text=CONTENT,
    html=st.none() | CONTENT,
    category=st.sampled_from(Category),
    name=st.text(string.ascii_letters + ' ,;<>()"\\.@äß漢', max_size=30),
)
def test_encoded_messages_are_decoded_unchanged(
    *, subject: str, text: str, html: str | None, category: Category, name: str
) -> None:
    """Encoding and decoding changes no subject, body or name."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    message = SendEmail(
        id="m1",
        category=category,
        to=(f'"{quoted}" <ann@example.org>',),
        subject=subject,
        text=text,
        html=html,
        created_at=AT,
    )

    assert decode(message.routing_key, encode(message)) == message


def test_one_recipient_may_be_a_string() -> None:
    """A publisher with one recipient needs no list."""
    assert send_email(body(to="ann@example.org", cc="bob@example.org")).recipients == (
        "ann@example.org",
        "bob@example.org",
    )


def test_recipients_are_each_address_once() -> None:
    """An address that is in To, Cc and Bcc gets one copy."""
    message = send_email(
        body(to=["Ann <ann@example.org>", "bob@EXAMPLE.org"], cc="ann@example.org", bcc="c@x.test")
    )

    assert message.recipients == ("ann@example.org", "bob@example.org", "c@x.test")


@pytest.mark.parametrize("category", Category)
def test_the_category_is_part_of_the_key(category: Category) -> None:
    """Each sending class has a queue of its own."""
    message = SendEmail.model_validate(SMALLEST | {"category": category})

    assert message.routing_key == f"email.send.{category}"


@pytest.mark.parametrize("unsafe", UNSAFE, ids=repr)
@pytest.mark.parametrize("field", ["subject", "to", "from", "cc", "bcc", "reply_to"])
def test_no_field_of_the_header_can_start_another(field: str, unsafe: str) -> None:
    """A line break, a NUL or an encoded word is refused, not stripped."""
    value = f"Hello {unsafe}" if field == "subject" else f"A{unsafe} <ann@example.org>"

    with pytest.raises(Undecodable, match=field):
        send_email(body(**{field: value}))


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"id": ""}, "id"),
        ({"id": "with space"}, "id"),
        ({"id": "m1\n"}, "id"),
        ({"id": "x" * 101}, "id"),
        ({"id": 7}, "id"),
        ({"to": []}, "to"),
        ({"to": ["ann"]}, "to.0"),
        ({"to": [["ann@example.org"]]}, "to.0"),
        ({"to": {"ann@example.org": 1}}, "to"),
        ({"to": None}, "to"),
        ({"to": ["ann@example.org, bob@example.org"]}, "to.0"),
        ({"subject": "x" * (MAX_SUBJECT_CHARS + 1)}, "subject"),
        ({"subject": None}, "subject"),
        ({"text": "a\x00b"}, "text"),
        ({"html": "a\x00b"}, "html"),
        ({"text": None}, "body"),
        ({"category": "urgent"}, "category"),
        ({"created_at": "2026-11-21T12:00:00"}, "created_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"attempt": 0}, "attempt"),
        ({"pending": ["Ann <ann@example.org>"]}, "pending.0"),
    ],
    ids=str,
)
def test_mistakes_are_reported_with_their_place(changes: dict[str, object], place: str) -> None:
    """The reason of a dead letter names the field, so that the publisher can correct it."""
    with pytest.raises(Undecodable, match=rf"(^|; ){place}: "):
        send_email(body(**changes))


def test_files_and_fields_of_a_publisher_are_checked_too() -> None:
    """A command from AMQP has the same limits as one from HTTP."""
    file = {"filename": "a.txt", "content": "SGVsbG8="}
    message = send_email(body(attachments=[file], headers={"x-campaign": "7"}))
    assert (message.attachments[0].size, message.headers) == (5, {"x-campaign": "7"})

    with pytest.raises(Undecodable, match=r"attachments\.0\.content: must be base64"):
        send_email(body(attachments=[file | {"content": "?"}]))
    with pytest.raises(Undecodable, match="headers: Bcc must not be set"):
        send_email(body(headers={"Bcc": "eve@example.org"}))


def test_a_code_has_no_unsubscribe_header() -> None:
    """Codes are asked for one by one; there is no list to leave."""
    headers = {"List-Unsubscribe": "<https://example.org/u>"}
    assert send_email(body(headers=headers)).headers == headers

    with pytest.raises(Undecodable, match="unsubscribe from a code"):
        decode("email.send.otp", body(category="otp", headers=headers))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"id": "\xff"}',
        b'{"id": "\\ud800"}',
        b"[" * 100_000,
        b'{"id": 1e999}',
        encode(EXAMPLES[0])[:-1],
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_bytes_that_are_no_contract_are_undecodable(raw: bytes) -> None:
    """Decoding any bytes fails in one way: Undecodable."""
    with pytest.raises(Undecodable):
        decode("email.send.transactional", raw)


@given(key=st.sampled_from(KEYS), raw=st.binary() | JSON_OBJECTS)
def test_any_bytes_are_a_contract_or_undecodable(key: str, raw: bytes) -> None:
    """No body makes decoding raise another exception."""
    with suppress(Undecodable):
        assert isinstance(decode(key, raw), Contract)


def test_an_unknown_type_is_undecodable() -> None:
    """The reason repeats the type cut short, since AMQP allows long ones."""
    with pytest.raises(Undecodable, match="no contract has the type") as caught:
        decode("x" * 255, b"{}")

    assert len(str(caught.value)) < 150


def test_the_type_must_be_the_message_s_own() -> None:
    """A newsletter cannot use the queue of the codes."""
    with pytest.raises(Undecodable, match=r"a message of type email\.send\.bulk"):
        decode("email.send.otp", body(category="bulk"))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "1e999"])
def test_a_wait_is_a_finite_number_from_zero_on(value: str) -> None:
    """A delay is neither NaN nor negative."""
    deferred = next(example for example in EXAMPLES if isinstance(example, EmailDeferred))
    raw = encode(deferred).replace(b"60.5", value.encode())

    with pytest.raises(Undecodable, match="retry_after"):
        decode("email.deferred", raw)


SECRET = "hunter2-äß"


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("code.verify", {"email": "ann@example.org", "code": SECRET * 10}),
        ("code.verify", {"email": SECRET, "code": [SECRET]}),
        ("code.verify", {"email": f"ann@{SECRET} .example", "code": {SECRET: SECRET}}),
        ("email.send.otp", SMALLEST | {"text": {"code": SECRET}, "category": SECRET}),
        ("email.send.otp", SMALLEST | {"to": f"{SECRET} <{SECRET}", "subject": [SECRET]}),
        ("domain.describe", {"domain": f"{SECRET} {SECRET}.example"}),
    ],
    ids=str,
)
def test_mistakes_do_not_repeat_the_input(key: str, fields: dict[str, Any]) -> None:
    """A reason goes into logs and dead letters, where no code may be."""
    with pytest.raises(Undecodable) as caught:
        decode(key, json.dumps({"id": "m1", **fields}).encode())

    assert "hunter2" not in str(caught.value)


def test_at_most_ten_mistakes_are_reported() -> None:
    """A body of a million mistakes has a short reason."""
    wrong = dict.fromkeys(SendEmail.model_fields, b"\xff")
    with pytest.raises(ValidationError) as caught:
        SendEmail.model_validate(wrong)

    assert caught.value.error_count() > MAX_MISTAKES
    assert mistakes(caught.value).count(": ") == MAX_MISTAKES


def test_the_first_wrong_item_ends_the_check_of_a_list() -> None:
    """A list of a million wrong items costs no more than one with a single one (issue 10, A2)."""
    with pytest.raises(ValidationError) as caught:
        SendEmail.model_validate(SMALLEST | {"to": ["wrong"] * MAX_RECIPIENTS})

    assert caught.value.error_count() == 1


def test_a_reason_repeats_no_name_of_any_length() -> None:
    """A reason cuts the names of a mapping's entries, which are input."""
    with pytest.raises(Undecodable) as caught:
        send_email(body(headers={"x" * 1_000_000: 1}))

    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "message",
    [
        SendEmail(id="m1", to=("a@x.test",), subject="s", text=SECRET, html=SECRET, sealed=SECRET),
        VerifyCode(id="q1", email="a@x.test", code=SECRET),
    ],
    ids=lambda message: type(message).__name__,
)
def test_no_secret_is_in_the_text_of_a_message(message: Contract) -> None:
    """A contract that comes into a log or a traceback shows neither a code nor a body."""
    assert SECRET not in repr(message)
    assert SECRET not in str(message)


def test_only_events_may_find_no_queue() -> None:
    """A command or question without a queue is refused; an event may have no queue."""
    careless = {contract for contract in CONTRACTS if not contract.must_arrive}

    assert all(issubclass(contract, Event) for contract in careless)
    assert EmailDelivered in careless


def test_feedback_of_other_services_must_be_kept() -> None:
    """A report was answered 202, and a suppression stops mail: a queue must keep both."""
    kept = [each.__name__ for each in CONTRACTS if issubclass(each, Event) and each.must_arrive]

    assert kept == [
        "FeedbackReported",
        "MailReceived",
        *("ReportBounced", "ReportComplained", "ReportDelayed", "ReportDelivered"),
        *("EmailRescheduled", "SuppressionAdded", "SuppressionRemoved"),
    ]


def test_a_message_is_final_unless_it_comes_again() -> None:
    """A client waits on after an outcome only if another one will follow."""
    outcomes = {type(each): each for each in EXAMPLES}
    uncertain = outcomes[EmailUncertain]
    assert isinstance(uncertain, EmailUncertain)

    assert not uncertain.final
    assert uncertain.model_copy(update={"retry_after": None}).final
    assert {type(each).__name__ for each in EXAMPLES if getattr(each, "final", False)} == {
        "EmailDelivered",
        "EmailBounced",
        "EmailFailed",
        "EmailExpired",
        "EmailSuppressed",
        "EmailCancelled",
    }


def test_a_mail_for_later_has_keys_of_its_own() -> None:
    """A mail with a time goes to the scheduler, never to a sender, and a code has no time."""
    command = EXAMPLES[0].model_copy(update={"scheduled_at": AT})

    assert command.routing_key == "email.schedule.bulk"
    assert decode(command.routing_key, encode(command)) == command
    with pytest.raises(Undecodable, match="must not schedule a code"):
        decode(
            "email.schedule.transactional",
            b'{"id":"m1","to":["a@x.example"],"subject":"s","text":"t","category":"otp",'
            b'"scheduled_at":"2026-11-29T12:00:00Z"}',
        )
