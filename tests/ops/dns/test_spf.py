"""SPF, with records as a DNS server has them."""

from ipaddress import ip_address

import pytest

from ops.dns import lookup, spf
from ops.dns.answers import Answers
from ops.dns.spf import SpfResult, SpfWalk
from tests.nameserver import nameserver

OTHERS = """
mail.example. 60 IN A 192.0.2.10
mail.example. 60 IN AAAA 2001:db8::10
mx.example. 60 IN MX 10 mail.example.
good.example. 60 IN TXT "v=spf1 ip4:198.51.100.0/24 -all"
open.example. 60 IN TXT "v=spf1 +all"
two.example. 60 IN TXT "v=spf1 -all"
two.example. 60 IN TXT "v=spf1 ~all"
loop.example. 60 IN TXT "v=spf1 include:our.example ~all"
"""


def zone(record: str) -> str:
    """Return the zone of our.example with one SPF record, and of others."""
    return f'{OTHERS}our.example. 60 IN TXT "{record}"\n'


@pytest.mark.parametrize(
    ("record", "address", "result"),
    [
        ("v=spf1 ip4:192.0.2.1 -all", "192.0.2.1", SpfResult.PASS),
        ("v=spf1 ip4:192.0.2.0/24 -all", "192.0.2.200", SpfResult.PASS),
        ("v=spf1 ip4:192.0.2.1 -all", "192.0.2.2", SpfResult.FAIL),
        ("v=spf1 ip4:192.0.2.1 -all", "2001:db8::1", SpfResult.FAIL),
        ("v=spf1 ip6:2001:db8::/32 ~all", "2001:db8:1::1", SpfResult.PASS),
        ("v=spf1 ip4:192.0.2.1", "192.0.2.2", SpfResult.NEUTRAL),
        ("V=SPF1 A:mail.example ~ALL", "192.0.2.10", SpfResult.PASS),
        ("v=spf1 a:mail.example/24 ~all", "192.0.2.77", SpfResult.PASS),
        ("v=spf1 a:mail.example//64 ~all", "2001:db8::77", SpfResult.PASS),
        ("v=spf1 mx:mx.example ~all", "2001:db8::10", SpfResult.PASS),
        ("v=spf1 a ~all", "192.0.2.10", SpfResult.SOFTFAIL),
        ("v=spf1 include:good.example ~all", "198.51.100.9", SpfResult.PASS),
        ("v=spf1 include:good.example ~all", "192.0.2.1", SpfResult.SOFTFAIL),
        ("v=spf1 include:open.example -all", "192.0.2.1", SpfResult.PASS),
        ("v=spf1 include:none.example -all", "192.0.2.1", SpfResult.PERMERROR),
        ("v=spf1 include:two.example -all", "192.0.2.1", SpfResult.PERMERROR),
        ("v=spf1 include:loop.example -all", "192.0.2.1", SpfResult.PERMERROR),
        ("v=spf1 redirect=good.example", "192.0.2.1", SpfResult.FAIL),
        ("v=spf1 redirect=none.example", "192.0.2.1", SpfResult.PERMERROR),
        ("v=spf1 ?all redirect=good.example", "192.0.2.1", SpfResult.NEUTRAL),
        ("v=spf1 -ip4:192.0.2.1 +all", "192.0.2.1", SpfResult.FAIL),
        ("v=spf1 ip4:192.0.2.1 foo:bar -all", "192.0.2.1", SpfResult.PERMERROR),
        ("v=spf1 exists:%{i}.list.example -all", "192.0.2.1", SpfResult.FAIL),
        ("v=spf10 +all", "192.0.2.1", SpfResult.NONE),
        ("v=spf1 include:broken.example -all", "192.0.2.1", SpfResult.TEMPERROR),
        ("v=spf1 a:broken.example -all", "192.0.2.1", SpfResult.TEMPERROR),
        ("v=spf1 ip4:192.0.2.1 a:broken.example -all", "192.0.2.1", SpfResult.PASS),
    ],
)
def test_what_a_receiver_decides(record: str, address: str, result: SpfResult) -> None:
    """The first mechanism that matches decides (RFC 7208 4.6.2), whatever stands after it."""
    with nameserver(zone(record), broken=["broken.example"]) as where:
        found = lookup.decide(
            lambda answers: SpfWalk(answers).result("our.example", ip_address(address)),
            lookup.resolver(where),
        )

    assert found is result


def walk(text: str) -> SpfWalk:
    """Return the walk over our.example of a zone file."""

    def judge(answers: Answers) -> SpfWalk:
        made = SpfWalk(answers)
        made.count("our.example")
        return made

    with nameserver(text, broken=["broken.example"]) as where:
        return lookup.decide(judge, lookup.resolver(where))


@pytest.mark.parametrize(
    ("record", "lookups"),
    [
        ("v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 -all", 0),
        ("v=spf1 a mx ptr exists:%{i}.x.example include:good.example ~all", 5),
        ("v=spf1 include:good.example redirect=good.example", 2),
        ("v=spf1 a -all mx include:good.example", 1),
        ("v=spf1 -all redirect=good.example", 0),
        ("v=spf1 include:open.example exp=why.example -all", 1),
    ],
)
def test_what_counts_as_a_lookup(record: str, lookups: int) -> None:
    """Each mechanism that asks the DNS, and `redirect`, counts one (RFC 7208 4.6.4)."""
    assert walk(zone(record)).lookups == lookups


def test_lookups_of_included_records_count() -> None:
    """The limit is for all records together."""
    inner = " ".join(["a:mail.example"] * 4)
    text = zone("v=spf1 include:i1.example include:i2.example -all") + "".join(
        f'i{each}.example. 60 IN TXT "v=spf1 {inner} -all"\n' for each in (1, 2)
    )

    assert walk(text).lookups == 10


def test_a_record_without_end_is_left() -> None:
    """Records that include each other twice would take for ever."""
    text = "".join(
        f'{name}.example. 60 IN TXT "v=spf1 include:{then}.example include:{then}.example -all"\n'
        for name, then in [("our", "n1"), *((f"n{each}", f"n{each + 1}") for each in range(1, 30))]
    )

    assert walk(text).lookups > spf.MAX_LOOKUPS


@pytest.mark.parametrize(
    ("record", "mistake"),
    [
        ("v=spf1 ip4:192.0.2.256 -all", "our.example: ip4:192.0.2.256: no network of ip4"),
        ("v=spf1 ip4:192.0.2.1/33 -all", "our.example: ip4:192.0.2.1/33: a network with too many"),
        ("v=spf1 ip4 -all", "our.example: ip4: needs a value"),
        ("v=spf1 include -all", "our.example: include: needs a value"),
        ("v=spf1 all:x", "our.example: all:x: takes no value"),
        ("v=spf1 ipv4:192.0.2.1 -all", "our.example: ipv4:192.0.2.1: no mechanism of SPF"),
        ("v=spf1 -al", "our.example: -al: no mechanism of SPF"),
        ("v=spf1 redirect=a.example redirect=b.example", "our.example: redirect= stands twice"),
        ("v=spf1 include:none.example -all", "none.example has no SPF record"),
        ("v=spf1 include:two.example -all", "two.example has 2 SPF records"),
        ("v=spf1 include:loop.example -all", "our.example includes itself"),
    ],
)
def test_mistakes(record: str, mistake: str) -> None:
    """Each of these makes receivers ignore the record: permerror."""
    assert walk(zone(record)).mistakes[0].startswith(mistake)


def test_names_without_records_are_void_and_failures_are_not() -> None:
    """RFC 7208 4.6.4 limits the lookups that find nothing; a server that fails is another thing."""
    found = walk(zone("v=spf1 a:none.example mx:none.example a:broken.example mx:mx.example -all"))

    assert found.void == ["none.example", "none.example"]
    assert found.failures == ["broken.example: the name server answers SERVFAIL"]
    assert found.mistakes == []


def test_an_mx_of_too_many_hosts() -> None:
    """RFC 7208 4.6.4 allows ten."""
    hosts = "".join(f"many.example. 60 IN MX 10 h{each}.example.\n" for each in range(11))

    found = walk(zone("v=spf1 mx:many.example -all") + hosts)

    assert found.mistakes == ["mx:many.example has 11 hosts, 10 are allowed"]


def test_what_depends_on_the_mail_is_a_note() -> None:
    """Macros and `ptr` cannot be looked at without a mail."""
    found = walk(zone("v=spf1 exists:%{i}.x.example ptr -all"))

    assert [each.partition(" ")[0] for each in found.notes] == ["exists:%{i}.x.example", "ptr"]
    assert found.mistakes == found.void == []
