"""Questions to a DNS server: all that it can answer."""

import socket

import pytest

from ops.dns import lookup
from ops.dns.answers import Answers, DnsAnswer, Query
from tests.nameserver import nameserver

LONG = "".join(f'"{letter * 250}" ' for letter in "abcdefgh")
ZONE = f"""
our.example. 60 IN TXT "v=spf1 " "~all"
our.example. 60 IN MX 20 b.our.example.
our.example. 60 IN MX 10 A.our.example.
none.example. 60 IN MX 0 .
a.our.example. 60 IN A 192.0.2.1
a.our.example. 60 IN AAAA 2001:db8::1
long.example. 60 IN TXT ( {LONG} )
alias.example. 60 IN CNAME elsewhere.example.
"""


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("our.example", "TXT", ("v=spf1 ~all",)),
        ("our.example", "MX", ("20 b.our.example.", "10 A.our.example.")),
        ("a.our.example", "AAAA", ("2001:db8::1",)),
        ("our.example", "A", ()),
        ("nobody.example", "TXT", ()),
        ("x" * 70 + ".example", "TXT", None),
    ],
)
def test_an_answer(name: str, kind: str, values: tuple[str, ...] | None) -> None:
    """Strings are joined; a name without records is empty; an impossible name is a failure."""
    with nameserver(ZONE) as where:
        answer = lookup.ask(Query(name, kind), lookup.resolver(where))

    assert answer.values == (values or ())
    assert bool(answer.failure) == (values is None)


def test_a_long_answer_comes_by_tcp() -> None:
    """A key of 4096 bits does not fit in a packet."""
    with nameserver(ZONE) as where:
        answer = lookup.ask(Query("long.example", "TXT"), lookup.resolver(where))

    assert answer.values == ("".join(letter * 250 for letter in "abcdefgh"),)


def test_a_server_that_fails_is_a_failure() -> None:
    """SERVFAIL says nothing about what is published."""
    with nameserver(ZONE, broken=["our.example"]) as where:
        answer = lookup.ask(Query("our.example", "TXT"), lookup.resolver(where))

    assert answer == DnsAnswer(failure="the name server answers SERVFAIL")


def test_an_alias_that_the_server_does_not_follow_is_a_failure() -> None:
    """A zone's own server does not know the other zone, where the record may well be."""
    with nameserver(ZONE) as where:
        answer = lookup.ask(Query("alias.example", "TXT"), lookup.resolver(where))

    assert answer == DnsAnswer(failure="is an alias of elsewhere.example., without an answer there")


def test_a_server_that_does_not_answer_is_a_failure() -> None:
    """A lost packet is no missing record."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        through = lookup.resolver(silent.getsockname())
        through.lifetime = 0.1
        answer = lookup.ask(Query("our.example", "TXT"), through)

    assert answer.failure.startswith("no answer within")


def test_hosts_are_asked_for_until_all_is_known() -> None:
    """The names in an answer are asked for next, by preference; a null MX is an empty host."""

    def judge(answers: Answers) -> object:
        hosts, _ = answers.mail_hosts("our.example")
        null, _ = answers.mail_hosts("none.example")
        return hosts, null, [[str(each) for each in answers.addresses(host)[0]] for host in hosts]

    with nameserver(ZONE) as where:
        found = lookup.decide(judge, lookup.resolver(where))

    assert found == (
        ["a.our.example", "b.our.example"],
        [""],
        [["192.0.2.1", "2001:db8::1"], []],
    )


def test_a_chain_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of others cannot make a check ask for ever."""
    monkeypatch.setattr(lookup, "MAX_QUERIES", 9)
    asked: set[int] = set()

    def judge(answers: Answers) -> str:
        number = 0
        while answers.get(f"n{number}.example", "TXT").failure == "":
            number += 1
        asked.add(number)
        return answers.get(f"n{number}.example", "TXT").failure

    with nameserver(ZONE) as where:
        assert lookup.decide(judge, lookup.resolver(where)) == "too many questions"
    assert max(asked) == 9
