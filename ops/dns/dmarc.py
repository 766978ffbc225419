"""DMARC (RFC 9989, which replaces RFC 7489): the record of a domain, and what it says."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ops.dns.answers import Answers
from shared.contracts import address

POLICIES = ("none", "quarantine", "reject")
REMOVED = ("pct", "rf", "ri")  # by RFC 9989 C.5
_VERSION = re.compile(r"v\s*=\s*DMARC1\s*(?:;|$)")  # first, and in capitals: RFC 9989 4.8
_SIZE = re.compile(r"![0-9]+[kmgt]?$", re.IGNORECASE)  # of a report, in RFC 7489 6.2
_MAILTO = re.compile("mailto:(.+)", re.IGNORECASE)
_WALKED_LABELS = 7  # RFC 9989 4.10: the names between a long one and its last seven are left out

Tags = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DmarcPolicy:
    """The record that counts for a domain: its own, or that of a domain above it."""

    place: str  # the domain whose record it is, empty if there is none
    tags: Tags
    organizational_domain: str
    several: Sequence[str] = ()  # domains with several records, of which none counts
    failure: str = ""


def parse_tags(text: str) -> Tags:
    """Return the tags of a list such as `v=DMARC1; p=none` (RFC 6376 3.2), the first of each."""
    tags: dict[str, str] = {}
    for part in filter(str.strip, text.split(";")):
        name, _, value = part.partition("=")
        tags.setdefault(name.strip().lower(), value.strip())
    return tags


def records_of(values: Sequence[str]) -> list[str]:
    """Return the DMARC records among the TXT values of a name."""
    return [each for each in values if _VERSION.match(each)]


def find_policy(answers: Answers, domain: str) -> DmarcPolicy:
    """Return the policy of a domain, by a walk up the names (RFC 9989 4.10)."""
    found: dict[str, Tags] = {}
    several, failure = [], ""
    for name in walked(domain):
        answer = answers.get(f"_dmarc.{name}", "TXT")
        records = records_of(answer.values)
        failure = failure or answer.failure
        several += [name] if len(records) > 1 else []
        if len(records) == 1:
            found[name] = parse_tags(records[0])
            if _ends(found[name], name, domain):
                break
    organizational = _organizational(found, domain)
    last = [*found][-1] if found else ""
    place = next((each for each in (domain, organizational, last) if each in found), "")
    return DmarcPolicy(place, found.get(place, {}), organizational, several, failure)


def walked(domain: str) -> Iterator[str]:
    """Yield a domain and the domains above it, at most eight."""
    yield domain
    labels = domain.split(".")[1:]
    for start in range(max(0, len(labels) - _WALKED_LABELS), len(labels)):
        yield ".".join(labels[start:])


def _ends(tags: Tags, name: str, domain: str) -> bool:
    return tags.get("psd") == "n" or (tags.get("psd") == "y" and name != domain)


def _organizational(found: Mapping[str, Tags], domain: str) -> str:
    if not found:
        return domain
    last = [*found][-1]
    if (
        found[last].get("psd") == "y" and last != domain
    ):  # a registry's: its customer's name is one longer
        return ".".join(domain.split(".")[-len(last.split(".")) - 1 :])
    return last


def report_addresses(text: str) -> tuple[list[str], list[str]]:
    """Return the addresses of `rua=`, and the URIs that are none."""
    good, bad = [], []
    for uri in filter(None, (each.strip() for each in text.split(","))):
        found = _MAILTO.fullmatch(_SIZE.sub("", uri))
        try:
            good.append(address.check_address(found[1] if found else ""))
        except ValueError:
            bad.append(uri)
    return good, bad
