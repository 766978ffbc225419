"""Questions to the DNS: the edge of this folder, by dnspython."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver

from ops.dns.answers import Answers, DnsAnswer, Query

QUERY_SECONDS = 6.0  # for one question, with its repeats
MAX_AT_ONCE = 8
_PAYLOAD_OCTETS = 1232  # fits in a packet anywhere (DNS Flag Day 2020); TCP carries what is larger
# The checks of one domain ask for about 20 names. Records of others, such as those that an SPF
# record includes, decide how many more there are.
MAX_QUERIES = 600

T = TypeVar("T")


def resolver(nameserver: tuple[str, int] | None = None) -> dns.resolver.Resolver:
    """Return the system's resolver, or one that asks a host and port.

    Raises OSError for a host without an address, and dns.exception.DNSException where the system
    has no resolver.
    """
    made = dns.resolver.Resolver(configure=nameserver is None)
    made.lifetime = QUERY_SECONDS
    made.timeout = QUERY_SECONDS / 3
    made.use_edns(payload=_PAYLOAD_OCTETS)
    if nameserver:
        found = socket.getaddrinfo(*nameserver, type=socket.SOCK_DGRAM)
        made.nameservers = [
            dns.nameserver.Do53Nameserver(str(address[0]), int(address[1]))
            for *_, address in found[:1]
        ]
    return made


def decide(judge: Callable[[Answers], T], through: dns.resolver.Resolver) -> T:
    """Return what `judge` decides once the DNS has answered all that it looks at.

    `judge` runs again with more answers until it looks at nothing new; it is pure, and decides the
    same for the same answers.
    """
    known: dict[Query, DnsAnswer] = {}
    with ThreadPoolExecutor(MAX_AT_ONCE) as pool:
        while True:
            answers = Answers(known)
            decision = judge(answers)
            wanted = sorted(answers.wanted)[: MAX_QUERIES - len(known)]
            if not wanted:
                return decision
            known |= zip(wanted, pool.map(lambda query: ask(query, through), wanted), strict=True)


def ask(query: Query, through: dns.resolver.Resolver) -> DnsAnswer:
    """Return the answer to one question; what is temporary is a value as well."""
    try:
        found = through.resolve(f"{query.name}.", query.kind, search=False)
    except dns.resolver.NXDOMAIN:
        return DnsAnswer()
    except dns.resolver.NoAnswer as error:
        return _without_values(error)
    except dns.resolver.LifetimeTimeout:
        return DnsAnswer(failure=f"no answer within {QUERY_SECONDS:g} seconds")
    except dns.resolver.NoNameservers as error:
        return DnsAnswer(failure=_refusal(error))
    except (dns.exception.DNSException, OSError, UnicodeError) as error:
        return DnsAnswer(failure=str(error) or type(error).__name__)
    return DnsAnswer(tuple(map(_text, found)))


def _without_values(error: dns.resolver.NoAnswer) -> DnsAnswer:
    response = error.kwargs["response"]
    for rrset in response.answer:
        if rrset.rdtype == dns.rdatatype.CNAME:  # of a zone that this server does not serve
            return DnsAnswer(failure=f"is an alias of {rrset[0].target}, without an answer there")
    return DnsAnswer()


def _refusal(error: dns.resolver.NoNameservers) -> str:
    """Return the last server's reason, such as SERVFAIL."""
    errors = error.kwargs.get("errors") or ()
    return f"the name server answers {errors[-1][3]}" if errors else "no name server"


def _text(rdata: object) -> str:
    if strings := getattr(rdata, "strings", None):  # RFC 6376 3.6.2.2, RFC 7208 3.3: without gaps
        return b"".join(strings).decode("ascii", "replace")
    return str(rdata)
