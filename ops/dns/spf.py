"""SPF (RFC 7208): what a record says, how much it asks of a receiver, whom it permits."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network

from ops.dns.answers import Address, Answers

MAX_LOOKUPS = 10  # RFC 7208 4.6.4; so for the hosts of one `mx`
MAX_VOID_LOOKUPS = 2  # RFC 7208 4.6.4
_MAX_COUNTED = 30  # lookups; a longer record is followed no further
_VERSION = re.compile(r"v=spf1(?: |$)", re.IGNORECASE)
_MODIFIER = re.compile(r"([a-z][a-z0-9_.-]*)=(.*)", re.IGNORECASE)
_MECHANISM = re.compile(
    r"([-+~?]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?::([^/]+))?"
    r"(?:/(\d{1,3}))?(?://(\d{1,3}))?",
    re.IGNORECASE,
)
_NEEDS_VALUE = ("include", "exists", "ip4", "ip6")
_WITHOUT_LOOKUP = ("all", "ip4", "ip6")
_BITS4, _BITS6 = 32, 128


class SpfResult(StrEnum):
    """The results of RFC 7208 2.6."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"  # noqa: S105 -- the word of RFC 7208
    FAIL = "fail"
    SOFTFAIL = "softfail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


_RESULTS = {
    "+": SpfResult.PASS,
    "-": SpfResult.FAIL,
    "~": SpfResult.SOFTFAIL,
    "?": SpfResult.NEUTRAL,
}


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One mechanism; `value` is its domain or network, empty for the domain of the record."""

    qualifier: str
    name: str
    value: str
    bits4: int
    bits6: int

    def covers(self, found: Sequence[Address], address: Address) -> bool:
        """Return whether the address is in the network of one of those found."""
        bits = self.bits4 if address.version == 4 else self.bits6  # noqa: PLR2004 -- IPv4
        return any(
            address in ip_network(f"{each}/{bits}", strict=False)
            for each in found
            if each.version == address.version
        )

    def network(self) -> IPv4Network | IPv6Network:
        """Return the network of `ip4` or `ip6`. Raises ValueError."""
        bits = self.bits4 if self.name == "ip4" else self.bits6
        kind = IPv4Network if self.name == "ip4" else IPv6Network
        return kind(f"{self.value}/{bits}", strict=False)


@dataclass(slots=True)
class SpfRecord:
    """The mechanisms up to `all`, what follows them, and the words that no receiver understands."""

    mechanisms: list[Mechanism] = field(default_factory=list)
    redirect: str = ""
    mistakes: list[str] = field(default_factory=list)


def records_of(values: Sequence[str]) -> list[str]:
    """Return the SPF records among the TXT values of a domain (RFC 7208 4.5)."""
    return [each for each in values if _VERSION.match(each)]


def parse(text: str) -> SpfRecord:
    """Parse a record; a mistake is kept, and makes receivers ignore all of it."""
    record, modifiers = SpfRecord(), []
    for word in text.split()[1:]:
        if found := _MECHANISM.fullmatch(word):
            mechanism, mistake = _mechanism(found)
            record.mechanisms.append(mechanism)
            record.mistakes += [f"{word}: {mistake}"] if mistake else []
        elif found := _MODIFIER.fullmatch(word):
            modifiers.append(found[1].lower())
            record.redirect = found[2] if modifiers[-1] == "redirect" else record.redirect
        else:
            record.mistakes.append(f"{word}: no mechanism of SPF")
    twice = (each for each in ("redirect", "exp") if modifiers.count(each) > 1)
    record.mistakes += [f"{each}= stands twice" for each in twice]
    ends = [place for place, each in enumerate(record.mechanisms) if each.name == "all"]
    if ends:  # RFC 7208 5.1, 6.1: what follows, and a redirect, is never looked at
        del record.mechanisms[ends[0] + 1 :]
        record.redirect = ""
    return record


def _mechanism(found: re.Match[str]) -> tuple[Mechanism, str]:
    """Return a mechanism, and its mistake or nothing."""
    qualifier, name, value, bits4, bits6 = found.groups(default="")
    name = name.lower()
    if name == "ip6":
        bits4, bits6 = "", bits4
    made = Mechanism(qualifier or "+", name, value, int(bits4 or _BITS4), int(bits6 or _BITS6))
    if (name in _NEEDS_VALUE) != bool(value) and name not in {"a", "mx", "ptr"}:
        return made, "needs a value" if not value else "takes no value"
    if made.bits4 > _BITS4 or made.bits6 > _BITS6:
        return made, "a network with too many bits"
    if name in {"ip4", "ip6"}:
        try:
            made.network()
        except ValueError:
            return made, f"no network of {name}"
    return made, ""


@dataclass(slots=True)
class SpfWalk:
    """Follows the records of a domain, and counts what a receiver would look up."""

    answers: Answers
    lookups: int = 0
    void: list[str] = field(default_factory=list)  # the names that have no such records
    mistakes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count(self, domain: str, path: tuple[str, ...] = ()) -> None:
        """Visit all that a mail from an address that nothing matches would make a receiver do."""
        record = self._record(domain, path)
        if record is None:
            return
        self.mistakes += [f"{domain}: {each}" for each in record.mistakes]
        terms = [each for each in record.mechanisms if each.name not in _WITHOUT_LOOKUP]
        followed = [each.value for each in terms if each.name == "include"]
        followed += [record.redirect] if record.redirect else []
        self.lookups += len(terms) + bool(record.redirect)
        for each in terms:
            self._look_up(each, domain)
        for target in followed:
            if "%" not in target and self.lookups <= _MAX_COUNTED:
                self.count(target, (*path, domain))

    def _record(self, domain: str, path: tuple[str, ...]) -> SpfRecord | None:
        answer = self.answers.get(domain, "TXT")
        found = records_of(answer.values)
        if answer.failure:
            self.failures.append(f"{domain}: {answer.failure}")
        elif domain in path:
            self.mistakes.append(f"{domain} includes itself")
        elif len(found) != 1:
            how = "has no SPF record" if not found else f"has {len(found)} SPF records"
            self.mistakes.append(f"{domain} {how}")
        else:
            return parse(found[0])
        return None

    def _look_up(self, each: Mechanism, domain: str) -> None:
        target = each.value or domain
        if "%" in target:
            self.notes.append(f"{each.name}:{target} depends on the mail")
        elif each.name == "ptr":
            self.notes.append("ptr is slow, and not to be used (RFC 7208 5.5)")
        elif each.name != "include":
            found, failure = self._found(each, target)
            self.failures += [f"{target}: {failure}"] if failure else []
            self.void += [] if found or failure else [target]

    def _found(self, each: Mechanism, target: str) -> tuple[Sequence[object], str]:
        if each.name != "mx":
            return self.answers.addresses(target)
        hosts, failure = self.answers.mail_hosts(target)
        if len(hosts) > MAX_LOOKUPS:
            self.mistakes.append(f"mx:{target} has {len(hosts)} hosts, {MAX_LOOKUPS} are allowed")
        return hosts, failure

    def result(self, domain: str, address: Address, path: tuple[str, ...] = ()) -> SpfResult:
        """Return what a receiver decides on a mail from an address, whatever the limits."""
        answer = self.answers.get(domain, "TXT")
        found = records_of(answer.values)
        if answer.failure:
            return SpfResult.TEMPERROR
        if domain in path or len(found) > 1 or len(path) > MAX_LOOKUPS:
            return SpfResult.PERMERROR
        if not found:
            return SpfResult.NONE
        record = parse(found[0])
        if record.mistakes:
            return SpfResult.PERMERROR
        for decided in self._decisions(record, domain, address, (*path, domain)):
            return decided
        return SpfResult.NEUTRAL

    def _decisions(
        self, record: SpfRecord, domain: str, address: Address, path: tuple[str, ...]
    ) -> Iterator[SpfResult]:
        """Yield the result of each mechanism that matches or fails; the first one counts."""
        for each in record.mechanisms:
            match = self._matches(each, domain, address, path)
            if isinstance(match, SpfResult):
                yield match
            elif match:
                yield _RESULTS[each.qualifier]
        if record.redirect and "%" not in record.redirect:
            last = self.result(record.redirect, address, path)
            yield SpfResult.PERMERROR if last is SpfResult.NONE else last

    def _matches(
        self, each: Mechanism, domain: str, address: Address, path: tuple[str, ...]
    ) -> bool | SpfResult:
        target = each.value or domain
        if each.name == "all":
            return True
        if each.name in {"ip4", "ip6"}:
            return address in each.network()
        if "%" in target or each.name in {"ptr", "exists"}:
            return False  # nobody can tell without the mail
        if each.name == "include":
            return _included(self.result(target, address, path))
        hosts, failure = [target], ""
        if each.name == "mx":
            named, failure = self.answers.mail_hosts(target)
            hosts = [*named[:MAX_LOOKUPS]]
        for host in filter(None, hosts):
            found, failed = self.answers.addresses(host)
            failure = failure or failed
            if each.covers(found, address):
                return True
        return SpfResult.TEMPERROR if failure else False


def _included(result: SpfResult) -> bool | SpfResult:
    """Return what an `include` makes of the result there (RFC 7208 5.2)."""
    if result in {SpfResult.TEMPERROR, SpfResult.PERMERROR}:
        return result
    return SpfResult.PERMERROR if result is SpfResult.NONE else result is SpfResult.PASS
