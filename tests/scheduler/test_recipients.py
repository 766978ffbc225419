"""A mail for later without the recipients who were forgotten."""

import pytest

from services.scheduler.recipients import without
from shared.contracts import SendEmail, encode

ANN, BOB, EVE = "Ann <ann@example.org>", "bob@example.org", "eve@example.org"


def mail(**more: object) -> SendEmail:
    """Return a mail."""
    return SendEmail.model_validate({"id": "m1", "subject": "s", "text": "t", **more})


def is_ann(email: str) -> bool:
    """Return whether an address is the one that was forgotten."""
    return email == "ann@example.org"


@pytest.mark.parametrize(
    ("given", "left", "recipients"),
    [
        ({"to": [BOB]}, {"to": [BOB]}, [BOB]),
        ({"to": [ANN, BOB]}, {"to": [BOB]}, [BOB]),
        ({"to": [ANN], "cc": [BOB, EVE]}, {"to": [BOB, EVE]}, [BOB, EVE]),
        ({"to": [ANN], "cc": [BOB], "bcc": [EVE]}, {"to": [BOB], "bcc": [EVE]}, [BOB, EVE]),
        ({"to": [ANN], "cc": [ANN], "bcc": [EVE]}, {"to": [EVE]}, [EVE]),
        ({"to": [BOB], "bcc": [ANN]}, {"to": [BOB]}, [BOB]),
        # Those in bcc would see each other in any other field.
        ({"to": [ANN], "bcc": [BOB, EVE]}, {"to": [ANN], "bcc": [BOB, EVE]}, [BOB, EVE]),
        ({"to": [ANN, BOB], "cc": [EVE], "pending": [EVE]}, {"to": [BOB], "cc": [EVE]}, [EVE]),
    ],
)
def test_the_others_get_the_mail(
    given: dict[str, list[str]], left: dict[str, list[str]], recipients: list[str]
) -> None:
    """The mail is a valid one to all others, and to nobody else."""
    found = without(mail(**given), is_ann)

    assert found is not None
    assert SendEmail.read(encode(found)) == found
    fields = {"to": found.to, "cc": found.cc, "bcc": found.bcc}
    assert {name: [*value] for name, value in fields.items() if value} == left
    assert [*found.recipients] == recipients


@pytest.mark.parametrize(
    "given",
    [
        {"to": [ANN]},
        {"to": [ANN], "bcc": [ANN]},
        {"to": [ANN, BOB], "pending": ["ann@example.org"]},
    ],
)
def test_a_mail_to_nobody_is_none(given: dict[str, list[str]]) -> None:
    """Nobody is left to get it."""
    assert without(mail(**given), is_ann) is None
