"""Whether the records of a domain are published as its mails need them: answers in, findings out.

The rules of Gmail and Yahoo are those of their pages for senders, of 2024 and later.
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from ops.dns import dmarc, records, spf
from ops.dns.answers import Address, Answers
from ops.dns.dmarc import DmarcPolicy, Tags
from ops.dns.records import SendingDomain
from ops.dns.spf import SpfResult, SpfWalk
from services.sender.mail.dkim import DkimKey
from shared.contracts.address import domain_of

# In no network (RFC 1112 4): what its mails get, all strangers' mails get.
_STRANGER = ip_address("240.0.0.1")


class Level(StrEnum):
    """How a finding is to be taken. UNKNOWN: the DNS has not answered; ask again later."""

    OK = "ok"
    NOTE = "note"
    UNKNOWN = "unknown"
    MISSING = "missing"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` is what to do, empty if nothing is to be done."""

    level: Level
    about: str
    text: str
    advice: str = ""


def check(domain: SendingDomain, answers: Answers) -> list[Finding]:
    """Return the findings on a domain."""
    return [
        *_check_keys(domain, answers),
        *_check_spf(domain, answers),
        *_check_dmarc(domain, answers),
        *_check_return_path(domain.return_path, answers),
        *(finding for each in domain.addresses for finding in _check_reverse(each, answers)),
    ]


def _check_keys(domain: SendingDomain, answers: Answers) -> Iterator[Finding]:
    if not domain.keys:
        text = f"no key for {domain.name}, so its mails are not signed"
        yield Finding(Level.MISSING, "DKIM", text, f"run: ops dkim new {domain.name}")
    for key in domain.keys:
        yield _check_key(key, domain.name, answers)
    for key in domain.next_keys:
        found = _check_key(key, domain.name, answers)
        yield Finding(found.level, f"{found.about} (next)", found.text, found.advice)


def _check_key(key: DkimKey, domain: str, answers: Answers) -> Finding:
    name, about = records.dkim_name(key, domain), f"DKIM {key.selector}"
    answer = answers.get(name, "TXT")
    publish = f"publish the record that 'ops dkim show {domain}' prints"
    if answer.failure:
        return _unknown(about, name, answer.failure)
    if not answer.values:
        return Finding(Level.MISSING, about, f"{name} has no TXT record", publish)
    if len(answer.values) > 1:
        text = f"{name} has {len(answer.values)} TXT records; receivers may take any"
        return Finding(Level.WRONG, about, text, "leave one (RFC 6376 3.6.2.2)")
    tags = dmarc.parse_tags(answer.values[0])
    if mistake := _record_mistake(tags, key):
        return Finding(Level.WRONG, about, f"{name}: {mistake}", publish)
    if "y" in tags.get("t", "").split(":"):
        text = f"{name}: t=y says that you are testing, so a signature counts for nothing"
        return Finding(Level.WRONG, about, text, "remove t=y (RFC 6376 3.6.1)")
    private = key.private
    size = f"RSA, {private.key_size} bits" if isinstance(private, RSAPrivateKey) else "Ed25519"
    return Finding(Level.OK, about, f"{name} has the public half of the key ({size})")


def _record_mistake(tags: Tags, key: DkimKey) -> str:
    """Return why a receiver would not check our signatures with a record, empty if it would."""
    kind = "rsa" if _is_rsa(key) else "ed25519"
    if tags.get("v", "DKIM1") != "DKIM1" or ("v" in tags and next(iter(tags)) != "v"):
        return "v=DKIM1 must come first"
    if tags.get("k", "rsa") != kind:
        return f"k= must be {kind}"
    for tag, every, ours in (("h", "sha256", {"sha256"}), ("s", "*", {"*", "email"})):
        if not ours & set(tags.get(tag, every).replace(" ", "").split(":")):
            return f"{tag}= must allow {max(ours)}"
    if not tags.get("p"):
        return "p= is empty: the key is revoked" if "p" in tags else "it has no p="
    return _key_mistake("".join(tags["p"].split()), key)


def _key_mistake(text: str, key: DkimKey) -> str:
    try:
        published = base64.b64decode(text, validate=True)
        if _is_rsa(key):  # RFC 6376 3.6.1 allows RSAPublicKey too, which is inside of ours
            public = load_der_public_key(published)
            published = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        return "p= is no public key: perhaps a part of it is missing"
    return "" if published == records.public_half(key.private) else "p= is another key's"


def _is_rsa(key: DkimKey) -> bool:
    return isinstance(key.private, RSAPrivateKey)


def _check_spf(domain: SendingDomain, answers: Answers) -> Iterator[Finding]:
    yield from _check_spf_of(domain.return_path, domain.addresses, answers)
    if domain.return_path == domain.name:
        return
    answer = answers.get(domain.name, "TXT")
    if answer.failure or spf.records_of(answer.values):
        yield from _check_spf_of(domain.name, (), answers)
    else:
        text = f"{domain.name} has none; mails of Postrider come from {domain.return_path}"
        advice = 'if nothing else sends as this domain, publish "v=spf1 -all"'
        yield Finding(Level.NOTE, "SPF", text, advice)


def _check_spf_of(name: str, addresses: Sequence[Address], answers: Answers) -> Iterator[Finding]:
    answer = answers.get(name, "TXT")
    found = spf.records_of(answer.values)
    if answer.failure:
        yield _unknown("SPF", name, answer.failure)
    elif not found:
        advice = f"publish the record that 'ops dkim show' prints for {name}"
        yield Finding(Level.MISSING, "SPF", f"{name} has no SPF record", advice)
    elif len(found) > 1:
        text = f"{name} has {len(found)} SPF records, so none counts"
        yield Finding(Level.WRONG, "SPF", text, "join them into one (RFC 7208 3.2)")
    else:
        yield from _check_spf_walk(name, addresses, answers)


def _check_spf_walk(name: str, addresses: Sequence[Address], answers: Answers) -> Iterator[Finding]:
    walk = SpfWalk(answers)
    walk.count(name)
    broken = [*_spf_limits(walk, name)]
    yield from broken
    yield from (Finding(Level.NOTE, "SPF", f"{name}: {each}") for each in walk.notes)
    yield from (Finding(Level.UNKNOWN, "SPF", each, _AGAIN) for each in walk.failures)
    if broken:
        return
    stranger = walk.result(name, _STRANGER)
    yield from _spf_end(stranger, name, walk.lookups)
    for each in addresses:
        yield _spf_permits(walk.result(name, each), name, each)


def _spf_limits(walk: SpfWalk, name: str) -> Iterator[Finding]:
    """Yield what makes receivers ignore the record (permerror)."""
    for mistake in walk.mistakes:
        yield Finding(Level.WRONG, "SPF", mistake, "correct it: receivers ignore the whole record")
    if walk.lookups > spf.MAX_LOOKUPS:
        text = f"{name} needs {walk.lookups} lookups or more, receivers stop at {spf.MAX_LOOKUPS}"
        advice = "remove includes, or name networks by ip4: and ip6: (RFC 7208 4.6.4)"
        yield Finding(Level.WRONG, "SPF", text, advice)
    if len(walk.void) > spf.MAX_VOID_LOOKUPS:
        text = f"{name} looks for records that do not exist: {', '.join(walk.void)}"
        advice = f"leave {spf.MAX_VOID_LOOKUPS} of these at the most (RFC 7208 4.6.4)"
        yield Finding(Level.WRONG, "SPF", text, advice)


def _spf_end(stranger: SpfResult, name: str, lookups: int) -> Iterator[Finding]:
    if stranger in {SpfResult.FAIL, SpfResult.SOFTFAIL}:
        text = f"{name}: {lookups} of {spf.MAX_LOOKUPS} lookups; others' mails get a {stranger}"
        yield Finding(Level.OK, "SPF", text)
    elif stranger is SpfResult.PASS:
        text = f"{name} permits every address there is"
        yield Finding(Level.WRONG, "SPF", text, "remove +all and networks that are not yours")
    elif stranger is SpfResult.NEUTRAL:
        yield Finding(Level.WRONG, "SPF", f"{name} forbids nobody", "end it in ~all or -all")


def _spf_permits(result: SpfResult, name: str, address: Address) -> Finding:
    if result is SpfResult.PASS:
        return Finding(Level.OK, "SPF", f"{name} permits {address}")
    if result is SpfResult.TEMPERROR:
        return Finding(Level.UNKNOWN, "SPF", f"{name}: whether it permits {address}", _AGAIN)
    advice = f"add ip{address.version}:{address}, or the include of your provider"
    return Finding(Level.WRONG, "SPF", f"{name} does not permit {address} ({result})", advice)


def _check_dmarc(domain: SendingDomain, answers: Answers) -> Iterator[Finding]:
    policy = dmarc.find_policy(answers, domain.name)
    for place in policy.several:
        text = f"_dmarc.{place} has several DMARC records, so none counts"
        yield Finding(Level.WRONG, "DMARC", text, "leave one (RFC 9989 4.10)")
    if policy.failure:
        yield _unknown("DMARC", f"_dmarc.{domain.name}", policy.failure)
    elif not policy.place and not policy.several:
        text = f"neither {domain.name} nor a domain above it has a DMARC record"
        advice = "publish the one that 'ops dkim show' prints; Gmail and Yahoo ask for one"
        yield Finding(Level.MISSING, "DMARC", text, advice)
    elif policy.place:
        yield _check_policy(domain.name, policy)
        yield from _check_reports(policy, answers)
        yield from _check_alignment(domain, policy, answers)


def _check_policy(name: str, policy: DmarcPolicy) -> Finding:
    place, tags = f"_dmarc.{policy.place}", policy.tags
    good, _ = dmarc.report_addresses(tags.get("rua", ""))
    own = policy.place == name
    which = "p" if own or "sp" not in tags else "sp"
    said = tags.get(which, "none" if good else "").lower()
    if said not in dmarc.POLICIES:
        text = f"{place}: {which}={said} is none of {', '.join(dmarc.POLICIES)}"
        return Finding(Level.WRONG, "DMARC", text, "correct it: receivers ignore the record")
    for tag in ("adkim", "aspf"):
        if tags.get(tag, "r").lower() not in {"r", "s"}:
            return Finding(Level.WRONG, "DMARC", f"{place}: {tag}= is neither r nor s")
    if tags.get("t") == "y":
        text = f"{place}: t=y, so receivers apply the next weaker policy than {which}={said}"
        return Finding(Level.NOTE, "DMARC", text, "remove t=y once the reports are good")
    if old := [each for each in dmarc.REMOVED if each in tags]:
        text = f"{place}: {which}={said}; {', '.join(old)} no longer exist (RFC 9989)"
        return Finding(Level.NOTE, "DMARC", text, "remove them")
    return Finding(Level.OK, "DMARC", f"{place}: {which}={said}")


def _check_reports(policy: DmarcPolicy, answers: Answers) -> Iterator[Finding]:
    place = f"_dmarc.{policy.place}"
    good, bad = dmarc.report_addresses(policy.tags.get("rua", ""))
    for uri in bad:
        text = f"{place}: rua={uri} is no mailto: with an address"
        yield Finding(Level.WRONG, "DMARC", text, "write rua=mailto:postmaster@…")
    if not good and not bad:
        text = f"{place} has no rua=, so nobody sees which mails fail"
        yield Finding(Level.NOTE, "DMARC", text, "add rua=mailto:…")
    for other in sorted({domain_of(each) for each in good}):
        there = dmarc.find_policy(answers, other)
        if there.organizational_domain != policy.organizational_domain and other != policy.place:
            yield _check_permission(f"{policy.place}._report._dmarc.{other}", other, answers)


def _check_permission(name: str, other: str, answers: Answers) -> Finding:
    answer = answers.get(name, "TXT")
    if answer.failure:
        return _unknown("DMARC", name, answer.failure)
    if dmarc.records_of(answer.values):
        return Finding(Level.OK, "DMARC", f"{other} takes the reports")
    text = f"{other} does not say that it takes the reports, so nobody sends them"
    return Finding(Level.WRONG, "DMARC", text, f'{other} must publish {name} TXT "v=DMARC1"')


def _check_alignment(
    domain: SendingDomain, policy: DmarcPolicy, answers: Answers
) -> Iterator[Finding]:
    """Yield what makes a mail pass: one aligned signature, or an aligned envelope sender."""
    name, path = domain.name, domain.return_path
    if domain.keys:
        yield Finding(Level.OK, "DMARC", f"signatures have d={name}, which is aligned with From")
    other = dmarc.find_policy(answers, path)
    is_strict = policy.tags.get("aspf", "r").lower() == "s"
    if path == name or (
        not is_strict and other.organizational_domain == policy.organizational_domain
    ):
        yield Finding(Level.OK, "DMARC", f"the return path {path} is aligned with From")
    elif other.failure:
        yield _unknown("DMARC", f"_dmarc.{path}", other.failure)
    else:
        text = f"the return path {path} is not aligned with From, so a mail passes by DKIM alone"
        level = Level.NOTE if domain.keys else Level.WRONG
        yield Finding(level, "DMARC", text, f"take a subdomain of {name} as the bounce domain")


def _check_return_path(name: str, answers: Answers) -> Iterator[Finding]:
    about = "return path"
    hosts, failure = answers.mail_hosts(name)
    if failure:
        yield _unknown(about, f"{name} MX", failure)
    elif not hosts:
        yield _check_implicit(name, answers)
    elif hosts == [""]:
        text = f"{name} takes no mail (null MX), so receivers refuse its mails (RFC 7505 4.2)"
        yield Finding(Level.WRONG, about, text, "publish the MX of inbound")
    for host in filter(None, hosts):
        yield _check_mail_host(name, host, answers)


def _check_implicit(name: str, answers: Answers) -> Finding:
    about, advice = "return path", "publish an MX with the host of inbound"
    found, failure = answers.addresses(name)
    if found:
        text = f"{name} has no MX; reports go to its own address {found[0]}"
        return Finding(Level.NOTE, about, text, advice)
    if failure:
        return _unknown(about, name, failure)
    text = f"{name} has no MX, so reports are lost, and receivers refuse such a sender"
    return Finding(Level.MISSING, about, text, advice)


def _check_mail_host(name: str, host: str, answers: Answers) -> Finding:
    about = "return path"
    found, failure = answers.addresses(host)
    if found:
        return Finding(Level.OK, about, f"{name} has the MX {host}, with the address {found[0]}")
    if failure:
        return _unknown(about, host, failure)
    text = f"{name} has the MX {host}, which has no address"
    return Finding(Level.WRONG, about, text, f"name a host, no address, or publish {host}")


def _check_reverse(address: Address, answers: Answers) -> Iterator[Finding]:
    """Yield whether an address has a name that leads back to it; Gmail asks for it."""
    about = "reverse DNS"
    answer = answers.get(address.reverse_pointer, "PTR")
    names = [each.rstrip(".") for each in answer.values]
    back = {name: answers.addresses(name) for name in names}
    confirmed = [name for name, (found, _) in back.items() if address in found]
    failure = next((failed for _, failed in back.values() if failed), answer.failure)
    advice = "ask the provider of the address for a PTR record, and publish its name's A or AAAA"
    if confirmed:
        yield Finding(Level.OK, about, f"{address} is {confirmed[0]}, and back")
    elif failure:
        yield _unknown(about, str(address), failure)
    elif names:
        text = f"{address} is {names[0]}, which is not {address}"
        yield Finding(Level.WRONG, about, text, advice)
    else:
        yield Finding(Level.MISSING, about, f"{address} has no name", advice)


_AGAIN = "ask again later"


def _unknown(about: str, name: str, failure: str) -> Finding:
    return Finding(Level.UNKNOWN, about, f"{name}: {failure}", _AGAIN)
