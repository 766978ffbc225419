"""DMARC records, and where receivers find them."""

import pytest

from ops.dns import dmarc, lookup
from ops.dns.dmarc import DmarcPolicy
from tests.nameserver import nameserver

SEVERAL = """
_dmarc.a.our.example. 60 IN TXT "v=DMARC1; p=none"
_dmarc.a.our.example. 60 IN TXT "v=DMARC1; p=reject"
_dmarc.our.example. 60 IN TXT "other"
_dmarc.our.example. 60 IN TXT "v=DMARC1; p=quarantine"
"""


def policy(domain: str, **records: str) -> DmarcPolicy:
    """Return the policy of a domain where others have records, named with `_` for each dot."""
    zone = "".join(
        f'_dmarc.{name.replace("_", ".")}. 60 IN TXT "{text}"\n' for name, text in records.items()
    )
    with nameserver(zone or 'nobody.example. 60 IN TXT "-"\n') as where:
        return lookup.decide(
            lambda answers: dmarc.find_policy(answers, domain), lookup.resolver(where)
        )


@pytest.mark.parametrize(
    ("records", "place", "organizational"),
    [
        ({}, "", "a.our.example"),
        ({"a_our_example": "v=DMARC1; p=none"}, "a.our.example", "a.our.example"),
        ({"our_example": "v=DMARC1; p=none"}, "our.example", "our.example"),
        (
            {"a_our_example": "v=DMARC1; p=none", "our_example": "v=DMARC1; p=reject"},
            *("a.our.example", "our.example"),
        ),
        (
            {"a_our_example": "v=DMARC1; p=none; psd=n", "our_example": "v=DMARC1; p=reject"},
            *("a.our.example", "a.our.example"),
        ),
        ({"example": "v=DMARC1; p=none; psd=y"}, "example", "our.example"),
        ({"our_example": "v=dmarc1; p=none"}, "", "a.our.example"),
        ({"our_example": "p=none; v=DMARC1"}, "", "a.our.example"),
    ],
)
def test_where_a_policy_is_found(records: dict[str, str], place: str, organizational: str) -> None:
    """The record of the domain counts, else that of its organisational domain (RFC 9989 4.10)."""
    found = policy("a.our.example", **records)

    assert (found.place, found.organizational_domain) == (place, organizational)


def test_of_several_records_none_counts() -> None:
    """RFC 9989 4.10 discards them, and goes on with the domain above."""
    with nameserver(SEVERAL) as where:
        found = lookup.decide(
            lambda answers: dmarc.find_policy(answers, "a.our.example"), lookup.resolver(where)
        )

    assert (found.place, found.several) == ("our.example", ["a.our.example"])


def test_a_long_name_is_asked_for_eight_times() -> None:
    """RFC 9989 4.10 goes from the name itself to its last seven labels."""
    long = "a.b.c.d.e.f.g.h.our.example"

    assert [*dmarc.walked(long)] == [
        *(long, "d.e.f.g.h.our.example", "e.f.g.h.our.example", "f.g.h.our.example"),
        *("g.h.our.example", "h.our.example", "our.example", "example"),
    ]
    assert [*dmarc.walked("our.example")] == ["our.example", "example"]


def test_addresses_of_reports() -> None:
    """Several are separated by commas; the limits of size that once were are left out."""
    assert dmarc.report_addresses("mailto:a@x.example, MAILTO:b@y.example!10m") == (
        ["a@x.example", "b@y.example"],
        [],
    )
    assert dmarc.report_addresses("c@x.example,https://x.example,mailto:x.example") == (
        [],
        ["c@x.example", "https://x.example", "mailto:x.example"],
    )
