"""The checks of a domain, against records that a DNS server has."""

import base64
from functools import partial
from ipaddress import ip_address

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ops.dns import lookup, records
from ops.dns.check import Finding, Level, check
from ops.dns.records import SendingDomain
from services.sender.mail.dkim import DkimKey
from tests.nameserver import nameserver
from tests.sender.keys import ED25519, RSA

KEY = DkimKey("r1", RSA)
OTHER = records.dkim_value(DkimKey("r1", rsa.generate_private_key(65537, 2048)))
VALUE = records.dkim_value(KEY)
P = VALUE.partition("p=")[2]
ADDRESS = "192.0.2.25"
GOOD = {
    "r1._domainkey.our.example TXT": [VALUE],
    "our.example TXT": ["unrelated", f"v=spf1 ip4:{ADDRESS} ~all"],
    "our.example MX": ["10 mx.our.example."],
    "mx.our.example A": [ADDRESS],
    "_dmarc.our.example TXT": ["v=DMARC1; p=none; rua=mailto:postmaster@our.example"],
    "25.2.0.192.in-addr.arpa PTR": ["mx.our.example."],
}
OURS = SendingDomain("our.example", [KEY], addresses=[ip_address(ADDRESS)])
BOUNCED = SendingDomain("our.example", [KEY], bounce_domain="bounce.our.example")
RETURN_PATH = {
    "bounce.our.example TXT": ["v=spf1 a:mx.our.example -all"],
    "bounce.our.example MX": ["10 mx.our.example."],
}


def findings(
    domain: SendingDomain, changes: dict[str, list[str]], broken: tuple[str, ...] = ()
) -> list[Finding]:
    """Return the findings where the good records have changed."""
    lines = [
        f"{name}. 60 IN {kind} {quoted(value) if kind == 'TXT' else value}"
        for place, values in {**GOOD, **changes}.items()
        for name, kind in [place.split()]
        for value in values
    ]
    with nameserver("\n".join(lines), broken) as where:
        return lookup.decide(partial(check, domain), lookup.resolver(where))


def quoted(text: str) -> str:
    """Return a text as the strings of a zone file."""
    return " ".join(f'"{text[start : start + 255]}"' for start in range(0, len(text), 255))


def faults(found: list[Finding]) -> list[tuple[Level, str, str]]:
    """Return the findings that are not as they should be."""
    return [(each.level, each.about, each.text) for each in found if each.level != Level.OK]


def test_all_is_well() -> None:
    """A domain with all records has no fault, and each subject is mentioned."""
    found = findings(OURS, {})

    assert faults(found) == []
    assert {each.about for each in found} == {
        *("DKIM r1", "SPF", "DMARC", "return path", "reverse DNS"),
    }


def test_all_is_well_with_a_return_path() -> None:
    """Without SPF of its own a domain whose envelopes are another's gets a note, no more."""
    found = findings(BOUNCED, {**RETURN_PATH, "our.example TXT": []})

    assert [(level, about) for level, about, _ in faults(found)] == [(Level.NOTE, "SPF")]


@pytest.mark.parametrize(
    ("values", "level", "text"),
    [
        ([], Level.MISSING, "has no TXT record"),
        ([VALUE, VALUE + " "], Level.WRONG, "has 2 TXT records"),
        ([OTHER], Level.WRONG, "p= is another key's"),
        ([VALUE[:-40]], Level.WRONG, "p= is no public key"),
        (["v=DKIM1; k=rsa; p="], Level.WRONG, "p= is empty: the key is revoked"),
        (["v=DKIM1; k=rsa"], Level.WRONG, "it has no p="),
        ([f"v=DKIM1; k=ed25519; p={P}"], Level.WRONG, "k= must be rsa"),
        ([f"v=DKIM2; p={P}"], Level.WRONG, "v=DKIM1 must come first"),
        ([f"k=rsa; v=DKIM1; p={P}"], Level.WRONG, "v=DKIM1 must come first"),
        ([f"v=DKIM1; h=sha1; p={P}"], Level.WRONG, "h= must allow sha256"),
        ([f"v=DKIM1; s=tlsrpt; p={P}"], Level.WRONG, "s= must allow email"),
        ([f"v=DKIM1; t=s:y; p={P}"], Level.WRONG, "t=y says that you are testing"),
    ],
)
def test_a_key_that_receivers_cannot_use(values: list[str], level: Level, text: str) -> None:
    """Each of these makes the signatures of all mails count for nothing."""
    (fault,) = faults(findings(OURS, {"r1._domainkey.our.example TXT": values}))

    assert fault[:2] == (level, "DKIM r1")
    assert text in fault[2]


@pytest.mark.parametrize(
    "value",
    [
        f"p={P}",
        f"v=DKIM1; t=s; h=sha1:sha256; s=*; n=a note; p={P[:100]} {P[100:]};",
        "v=DKIM1; p={}".format(
            base64.b64encode(
                RSA.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
            ).decode()
        ),
    ],
)
def test_a_key_in_another_form(value: str) -> None:
    """RFC 6376 3.6.1 has defaults for all tags but p=, which may have blanks, and two forms."""
    assert faults(findings(OURS, {"r1._domainkey.our.example TXT": [value]})) == []


def test_an_ed25519_key_and_one_to_come() -> None:
    """All keys of the domain are looked up, by their selectors, also those that sign later."""
    keys = [KEY, DkimKey("e1", ED25519)]
    domain = SendingDomain("our.example", keys, [DkimKey("r2", RSA)])
    wrong = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    published = {"e1._domainkey.our.example TXT": [records.dkim_value(keys[1])]}

    assert [each[1] for each in faults(findings(domain, published))] == ["DKIM r2 (next)"]
    published["e1._domainkey.our.example TXT"] = [wrong]
    assert faults(findings(domain, published))[0][1] == "DKIM e1"


def test_no_key() -> None:
    """A domain without a key is asked about all the same."""
    (fault,) = faults(findings(SendingDomain("our.example"), {}))

    assert fault[:2] == (Level.MISSING, "DKIM")


@pytest.mark.parametrize(
    ("values", "level", "text"),
    [
        ([], Level.MISSING, "our.example has no SPF record"),
        (["v=spf1 -all", "v=spf1 ~all"], Level.WRONG, "has 2 SPF records, so none counts"),
        (["v=spf1 +all"], Level.WRONG, "permits every address there is"),
        (["v=spf1 ip4:0.0.0.0/0 -all"], Level.WRONG, "permits every address there is"),
        ([f"v=spf1 ip4:{ADDRESS} ?all"], Level.WRONG, "forbids nobody"),
        ([f"v=spf1 ip4:{ADDRESS}"], Level.WRONG, "forbids nobody"),
        (["v=spf1 ip4:192.0.2.26 -all"], Level.WRONG, f"does not permit {ADDRESS} (fail)"),
        ([f"v=spf1 ipv4:{ADDRESS} -all"], Level.WRONG, "no mechanism of SPF"),
        (["v=spf1 " + "a:mx.our.example " * 11 + "-all"], Level.WRONG, "needs 11 lookups"),
        (["v=spf1 a:a.example a:b.example a:c.example -all"], Level.WRONG, "do not exist: a."),
    ],
)
def test_spf(values: list[str], level: Level, text: str) -> None:
    """One record, within the limits of receivers, that forbids others and permits ours."""
    (fault, *others) = faults(findings(OURS, {"our.example TXT": values}))

    assert fault[:2] == (level, "SPF")
    assert text in fault[2]
    assert all(each[2].startswith("our.example does not permit") for each in others)


def test_spf_counts_for_the_return_path() -> None:
    """Receivers look at the domain of the envelope sender, not at that of From (RFC 7208 2.4)."""
    domain = SendingDomain(
        "our.example", [KEY], bounce_domain="bounce.our.example", addresses=OURS.addresses
    )
    changed = {**RETURN_PATH, "bounce.our.example TXT": ["v=spf1 ip4:192.0.2.26 -all"]}

    (fault,) = faults(findings(domain, changed))

    assert fault == (Level.WRONG, "SPF", f"bounce.our.example does not permit {ADDRESS} (fail)")


def test_spf_of_the_domain_in_from_may_be_unknown() -> None:
    """A server that fails does not say that the domain has no record."""
    (fault,) = faults(findings(BOUNCED, RETURN_PATH, broken=("our.example",)))

    assert fault[:2] == (Level.UNKNOWN, "SPF")


@pytest.mark.parametrize(
    ("values", "level", "text"),
    [
        ([], Level.MISSING, "neither our.example nor a domain above it"),
        (["v=DMARC1; p=none", "v=DMARC1; p=none;"], Level.WRONG, "several DMARC records"),
        (["v=DMARC1; p=maybe; rua=mailto:a@our.example"], Level.WRONG, "p=maybe is none of"),
        (["v=DMARC1"], Level.WRONG, "p= is none of"),
        (["v=DMARC1; p=none; aspf=x; rua=mailto:a@our.example"], Level.WRONG, "neither r nor s"),
        (["v=DMARC1; p=none"], Level.NOTE, "has no rua="),
        (["v=DMARC1; p=none; rua=a@our.example"], Level.WRONG, "is no mailto:"),
        (["v=DMARC1; p=reject; t=y; rua=mailto:a@our.example"], Level.NOTE, "t=y, so receivers"),
        (["v=DMARC1; p=reject; pct=50; rua=mailto:a@our.example"], Level.NOTE, "pct no longer"),
        (["v=DMARC1; p=none; rua=mailto:a@x.example"], Level.WRONG, "x.example does not say"),
    ],
)
def test_dmarc(values: list[str], level: Level, text: str) -> None:
    """One record with a policy, and addresses that get the reports."""
    (fault, *others) = faults(findings(OURS, {"_dmarc.our.example TXT": values}))

    assert fault[:2] == (level, "DMARC")
    assert text in fault[2]
    assert [each[0] for each in others] in ([], [Level.NOTE])


def test_reports_may_go_to_a_domain_that_takes_them() -> None:
    """The other domain publishes that it does (RFC 9990 4)."""
    changes = {
        "_dmarc.our.example TXT": ["v=DMARC1; rua=mailto:a@x.example,mailto:b@sub.our.example"],
        "our.example._report._dmarc.x.example TXT": ["v=DMARC1"],
    }

    assert faults(findings(OURS, changes)) == []


def test_the_policy_of_the_domain_above() -> None:
    """A subdomain has the policy `sp` of its organisational domain."""
    domain = SendingDomain("a.our.example", [KEY])
    changes = {
        "r1._domainkey.a.our.example TXT": [VALUE],
        "a.our.example TXT": ["v=spf1 -all"],
        "a.our.example MX": ["10 mx.our.example."],
        "_dmarc.our.example TXT": ["v=DMARC1; p=none; sp=reject; rua=mailto:a@our.example"],
    }

    found = findings(domain, changes)

    assert faults(found) == []
    assert "_dmarc.our.example: sp=reject" in [each.text for each in found]


@pytest.mark.parametrize(
    ("bounce_domain", "policy", "level"),
    [
        ("bounce.our.example", "v=DMARC1; p=none; aspf=r", Level.OK),
        ("bounce.our.example", "v=DMARC1; p=none; aspf=s", Level.NOTE),
        ("bounce.x.example", "v=DMARC1; p=none", Level.NOTE),
    ],
)
def test_alignment_of_the_return_path(bounce_domain: str, policy: str, level: Level) -> None:
    """A return path counts for DMARC if its organisational domain is that of From."""
    domain = SendingDomain("our.example", [KEY], bounce_domain=bounce_domain)
    changes = {
        f"{bounce_domain} TXT": ["v=spf1 -all"],
        f"{bounce_domain} MX": ["10 mx.our.example."],
        "_dmarc.our.example TXT": [f"{policy}; rua=mailto:a@our.example"],
        "_dmarc.x.example TXT": ["v=DMARC1; p=none"],
    }

    found = findings(domain, changes)

    (aligned,) = (each.level for each in found if "the return path" in each.text)
    assert aligned == level


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({"our.example MX": []}, Level.MISSING, "our.example has no MX"),
        ({"our.example MX": [], "our.example A": [ADDRESS]}, Level.NOTE, "its own address"),
        ({"our.example MX": ["0 ."]}, Level.WRONG, "null MX"),
        ({"our.example MX": ["10 x.example."]}, Level.WRONG, "which has no address"),
    ],
)
def test_the_return_path(changes: dict[str, list[str]], level: Level, text: str) -> None:
    """Reports about mails need a host that takes them."""
    (fault,) = faults(findings(OURS, changes))

    assert fault[:2] == (level, "return path")
    assert text in fault[2]


@pytest.mark.parametrize(
    ("names", "level", "text"),
    [
        ([], Level.MISSING, f"{ADDRESS} has no name"),
        (["x.example."], Level.WRONG, f"{ADDRESS} is x.example, which is not {ADDRESS}"),
    ],
)
def test_reverse_dns(names: list[str], level: Level, text: str) -> None:
    """Gmail refuses mails from addresses whose name does not lead back to them."""
    found = findings(OURS, {"25.2.0.192.in-addr.arpa PTR": names})

    assert faults(found) == [(level, "reverse DNS", text)]


@pytest.mark.parametrize(
    ("name", "subjects"),
    [
        ("r1._domainkey.our.example", ["DKIM r1"]),
        ("our.example", ["SPF", "return path"]),
        ("_dmarc.our.example", ["DMARC"]),
        ("mx.our.example", ["return path", "reverse DNS"]),
        ("25.2.0.192.in-addr.arpa", ["reverse DNS"]),
    ],
)
def test_a_server_that_fails_makes_nothing_wrong(name: str, subjects: list[str]) -> None:
    """A record that the DNS cannot show now may be as it should be."""
    found = faults(findings(OURS, {}, broken=(name,)))

    assert [each[1] for each in found] == subjects
    assert {each[0] for each in found} == {Level.UNKNOWN}
