"""Answers of the DNS, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

Address = IPv4Address | IPv6Address


class Query(NamedTuple):
    """A name, in lower case and without the last dot, and the type of its records."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """The values of a name, empty if it has none; `failure` if nobody could tell.

    The strings of a TXT record are joined; other records are as in a zone file.
    """

    values: Sequence[str] = ()
    failure: str = ""


class Answers:
    """The answers so far. A question that has none yet is added to `wanted`.

    It then has a failure, so a decision that rests on it is not the last one.
    """

    def __init__(self, known: Mapping[Query, DnsAnswer]) -> None:
        self._known = known
        self.wanted: set[Query] = set()

    def get(self, name: str, kind: str) -> DnsAnswer:
        """Return the answer to a question."""
        query = Query(name.rstrip(".").lower(), kind)
        if query not in self._known:
            self.wanted.add(query)
            return DnsAnswer(failure="too many questions")  # seen where they end
        return self._known[query]

    def addresses(self, host: str) -> tuple[Sequence[Address], str]:
        """Return the IPv4 and IPv6 addresses of a host, and a failure if there was one."""
        both = self.get(host, "A"), self.get(host, "AAAA")
        found = [ip_address(value) for answer in both for value in answer.values]
        return found, next((each.failure for each in both if each.failure), "")

    def mail_hosts(self, domain: str) -> tuple[Sequence[str], str]:
        """Return the hosts of a domain's MX records by preference, and a failure.

        The host of a null MX is empty (RFC 7505).
        """
        answer = self.get(domain, "MX")
        records = [value.split() for value in answer.values]
        ordered = sorted((int(preference), host) for preference, host in records)
        return [host.rstrip(".").lower() for _, host in ordered], answer.failure
