"""What a mail with a code and a guess at one are counted for."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from services.otp.challenge import CodeScope
from services.otp.limits import DAY, HOUR, CodeLimits, Limit, site

HOLDER = CodeScope("shop", "sign-in", "Anna@example.com")
LIMITS = CodeLimits(5, 10, 100, 20, 50, 1000, client_failures=200, ip_failures=40)


def test_everything_that_a_mail_is_counted_for() -> None:
    """A mail is limited by its recipient, client, address, domain, and with all others."""
    assert LIMITS.of(HOLDER, ip_address("192.0.2.7")) == [
        Limit("recipient/anna@example.com", 5, HOUR),
        Limit("recipient/anna@example.com", 10, DAY),
        Limit("client/shop", 100, HOUR),
        Limit("ip/192.0.2.7", 20, HOUR),
        Limit("domain/example.com", 50, HOUR),
        Limit("total", 1000, HOUR),
    ]


def test_without_an_address() -> None:
    """Whoever names no address is limited by everything else."""
    assert {limit.subject.partition("/")[0] for limit in LIMITS.of(HOLDER, None)} == {
        "recipient",
        "client",
        "domain",
        "total",
    }


def test_switched_off() -> None:
    """A limit of 0 is none."""
    assert CodeLimits(0, 0, 0, 0, 0, 0).of(HOLDER, ip_address("::1")) == []
    assert len(replace(LIMITS, domain_hourly=0).of(HOLDER, None)) == 4
    assert CodeLimits(0, 0, 0, 0, 0, 0).of_guess(HOLDER, ip_address("::1")) == []


def test_whose_failure_a_guess_is() -> None:
    """Each on its own: a limit on the pair would let each address have its guesses anew."""
    client, ip = Limit("client/shop", 200, DAY), Limit("ip/2001:db8::/64", 40, DAY)

    assert LIMITS.of_guess(HOLDER, ip_address("2001:db8::7")) == [client, ip]
    assert LIMITS.of_guess(replace(HOLDER, email="ben@example.com"), None) == [client]
    assert replace(LIMITS, client_failures=0).of_guess(HOLDER, ip_address("2001:db8::8")) == [ip]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
    ],
)
def test_one_site(address: str, expected: str) -> None:
    """Whoever has a network of addresses has no more mails by it."""
    assert site(ip_address(address)) == expected
