"""The records to publish, as another program reads them."""

import base64
from ipaddress import ip_address

import dns.rdatatype
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from ops.dns import records
from ops.dns.records import SendingDomain
from services.sender.mail.dkim import DkimKey
from tests.sender.keys import ED25519, RSA

KEYS = (DkimKey("r1", RSA), DkimKey("e1", ED25519))


def read(domain: SendingDomain) -> dict[tuple[str, str], list[bytes]]:
    """Return the texts of a printed zone by name and type, the strings of each record joined."""
    zone = dns.zone.from_text("\n".join(records.zone(domain)), ".", check_origin=False)
    return {
        (str(name), dns.rdatatype.to_text(each.rdtype)): [
            b"".join(getattr(rdata, "strings", ())) or str(rdata).encode() for rdata in each
        ]
        for name, each in zone.iterate_rdatasets()
    }


def test_all_records_of_a_domain() -> None:
    """With all that is asked for, the lines are a whole zone file."""
    domain = SendingDomain(
        "our.example",
        KEYS,
        bounce_domain="bounce.our.example",
        addresses=(ip_address("192.0.2.25"), ip_address("2001:db8::25")),
        includes=("relay.example",),
        mail_host="mx.our.example",
    )

    found = read(domain)

    spf = b"v=spf1 ip4:192.0.2.25 ip6:2001:db8::25 include:relay.example ~all"
    assert found["bounce.our.example", "TXT"] == [spf]
    assert found["bounce.our.example", "MX"] == [b"10 mx.our.example"]
    assert found["_dmarc.our.example", "TXT"] == [
        b"v=DMARC1; p=none; rua=mailto:postmaster@our.example"
    ]
    assert found["r1._domainkey.our.example", "TXT"] == [records.dkim_value(KEYS[0]).encode()]
    assert found["e1._domainkey.our.example", "TXT"][0].startswith(b"v=DKIM1; k=ed25519; p=")


def test_what_the_user_has_to_fill_in_is_a_comment() -> None:
    """No invented address is ever published."""
    domain = SendingDomain("our.example", KEYS, KEYS[:1])

    assert ("our.example", "TXT") not in read(domain)
    assert ("our.example", "MX") not in read(domain)
    lines = [*records.zone(domain)]
    assert '; our.example. TXT "v=spf1 ip4:ADDRESS include:PROVIDER ~all"' in lines
    assert "; our.example. MX 10 HOST." in lines
    assert "; our.example: DKIM, of a key that does not sign yet" in lines


@pytest.mark.parametrize("bits", [2048, 4096])
def test_strings_are_short_enough(bits: int) -> None:
    """A string of a TXT record has 255 octets at most (RFC 1035 3.3), and nothing is lost."""
    key = DkimKey("r1", rsa.generate_private_key(65537, bits))
    zone = dns.zone.from_text(
        "\n".join(records.dkim_lines([key], "our.example")), ".", check_origin=False
    )
    (strings,) = (getattr(each, "strings", ()) for *_, each in zone.iterate_rdatas("TXT"))

    assert max(map(len, strings)) <= 255
    assert b"".join(strings).decode() == records.dkim_value(key)


def test_the_key_of_the_standard() -> None:
    """The key of RFC 8463 A.1 is published as A.2 shows it: 32 octets, no DER."""
    secret = base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    key = DkimKey("brisbane", ed25519.Ed25519PrivateKey.from_private_bytes(secret))

    value = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    assert records.dkim_value(key) == value
