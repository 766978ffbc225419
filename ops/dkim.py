"""`ops dkim`: make a key, print the records of a domain, check them as they are published."""

import argparse
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from dns.exception import DNSException

from ops import cli
from ops.dns import lookup, records
from ops.dns.check import Finding, Level, check
from ops.dns.records import SendingDomain
from services.sender.mail.dkim import (
    MIN_RSA_BITS,
    NEXT_SUFFIX,
    SELECTOR,
    DkimKey,
    PrivateKey,
    read_key,
    read_signers,
)
from shared.contracts.address import check_domain
from shared.errors import ConfigError

EXIT_UNKNOWN = 3  # nothing is wrong, but the DNS has not answered all of it
_TYPES = {"rsa": ("rsa",), "ed25519": ("ed25519",), "both": ("rsa", "ed25519")}
_DNS_PORT = 53
_MAX_PORT = 65535
_NEW = """\
; {file}
; Publish:"""
_SIGNS = """\
; Senders sign with it after their next start. Before that, see that the record is published:
;   ops dkim check {domain}"""
_NEXT = """\
; {domain} has such a key, which signs until you rename the files:
;   1. publish the record, and see that it is there: ops dkim check {domain}
;   2. mv {old} {old}.old; mv {file} {new}
;   3. start the senders again
;   4. remove the old record and file after a week: its mails have arrived by then"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make a key, and print the record to publish")
    new.add_argument("domain", type=_domain, metavar="DOMAIN")
    new.add_argument("--type", choices=tuple(_TYPES), default="rsa", help="(default: rsa)")
    new.add_argument(
        "--selector", type=_selector, metavar="S", help="(default: the day, such as s20261129)"
    )
    showing = actions.add_parser("show", help="print the records to publish, as a zone file")
    showing.add_argument(
        "--include",
        type=_domain,
        action="append",
        default=[],
        metavar="DOMAIN",
        help="whose SPF permits your relay, as its provider says",
    )
    showing.add_argument("--mx", type=_domain, metavar="HOST", help="the host of reports")
    checking = actions.add_parser(
        "check",
        help="look up the records as they are published",
        description="Exits with 1 if something is wrong or missing, and with 3 if only the DNS"
        " did not answer.",
    )
    checking.add_argument(
        "--nameserver",
        type=_nameserver,
        metavar="HOST[:PORT]",
        help="whom to ask (default: the system's); the domain's own has no old answers",
    )
    checking.add_argument("--json", action="store_true", help="for programs, one object a line")
    for action in (showing, checking):
        action.add_argument(
            "domain", type=_domain, nargs="?", metavar="DOMAIN", help="(default: all with keys)"
        )
        action.add_argument(
            "--address",
            type=ip_address,
            action="append",
            default=[],
            metavar="IP",
            help="from which mails reach their receivers: yours, or your relay's",
        )
        action.add_argument(
            "--return-path",
            type=_domain,
            metavar="DOMAIN",
            help="the domain of envelope senders (default: SENDER_BOUNCE_DOMAIN, else DOMAIN)",
        )
    for action in (new, showing, checking):
        action.add_argument(
            "--directory", type=Path, metavar="D", help="of the keys (default: SENDER_DKIM_KEYS)"
        )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the action and return the exit code; print an error as one line."""
    action = {"new": _new, "show": _show, "check": _check}[arguments.action]
    directory = _directory(arguments.directory, os.environ)
    try:
        return action(arguments, directory)
    except BrokenPipeError:
        raise  # nobody reads the output any more: see `ops.__main__`
    except (ValueError, OSError, DNSException) as error:
        return cli.print_error(f"ops dkim: {error}")


def _directory(given: Path | None, environ: Mapping[str, str]) -> Path:
    named = given or environ.get("SENDER_DKIM_KEYS")
    if not named:
        raise ConfigError("give --directory, or set SENDER_DKIM_KEYS as for the sender")
    return Path(named).expanduser()


def _new(arguments: argparse.Namespace, directory: Path) -> int:
    domain, folder = arguments.domain, directory / arguments.domain
    selector = arguments.selector or f"s{datetime.now(UTC):%Y%m%d}"
    kinds, old = _TYPES[arguments.type], _keys_by_kind(folder)
    if "rsa" not in {*kinds, *old}:
        # Many receivers cannot check Ed25519 (RFC 8463 5), and the sender refuses to start so.
        raise ValueError(f"{domain} has no RSA key, beside which Ed25519 stands: use --type both")
    for kind in kinds:
        name = selector if len(kinds) == 1 else f"{selector}-{kind}"
        new = folder / f"{name}.pem"
        file = new.with_name(f"{new.name}{NEXT_SUFFIX}") if kind in old else new
        if taken := [*folder.glob(f"{name}.pem*")]:
            raise FileExistsError(f"{taken[0]} exists: use another --selector")
        write(file, generate(kind))
        print(_NEW.format(file=file))
        print(*records.dkim_lines([read_key(file)], domain), sep="\n")
        steps = _NEXT if kind in old else _SIGNS
        print(steps.format(domain=domain, old=old.get(kind), file=file, new=new))
    return 0


def _keys_by_kind(folder: Path) -> Mapping[str, Path]:
    """Return the file of the key of each kind that signs now."""
    files = sorted(folder.glob("[!.]*.pem"))
    return {_kind(read_key(file)): file for file in files}


def _kind(key: DkimKey) -> str:
    return key.algorithm.partition("-")[0]


def generate(kind: str) -> PrivateKey:
    """Return a new private key."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, MIN_RSA_BITS)
    return ed25519.Ed25519PrivateKey.generate()


def write(file: Path, key: PrivateKey) -> None:
    """Write a key to a new file, which its owner alone can read. Raises FileExistsError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with open(file, "xb", opener=partial(os.open, mode=0o600)) as opened:
        opened.write(text)


def _show(arguments: argparse.Namespace, directory: Path) -> int:
    for domain in _domains(arguments, directory):
        if not (domain.keys or domain.next_keys):
            raise ValueError(f"{domain.name} has no key in {directory}: run ops dkim new")
        print(*records.zone(domain), sep="\n")
    return 0


def _check(arguments: argparse.Namespace, directory: Path) -> int:
    through = lookup.resolver(arguments.nameserver)
    levels: set[Level] = set()
    for domain in _domains(arguments, directory):
        findings = lookup.decide(partial(check, domain), through)
        levels |= {each.level for each in findings}
        print(*_lines(domain.name, findings, as_json=arguments.json), sep="\n", flush=True)
    if levels & {Level.WRONG, Level.MISSING}:
        return 1
    return EXIT_UNKNOWN if Level.UNKNOWN in levels else 0


def _lines(domain: str, findings: Iterable[Finding], *, as_json: bool) -> Iterator[str]:
    if not as_json:
        yield domain
    for each in findings:
        if as_json:
            yield json.dumps({"domain": domain, **asdict(each)}, ensure_ascii=False)
            continue
        yield f"  {each.level:8} {each.about}: {each.text}"
        if each.advice:
            yield f"  {'':8} -> {each.advice}"


def _domains(arguments: argparse.Namespace, directory: Path) -> Iterator[SendingDomain]:
    """Yield the domain that is asked for, else each one with keys. Raises ValueError, OSError."""
    signers = read_signers(directory)
    named = [arguments.domain] if arguments.domain else [*signers]
    if not named:
        raise ValueError(f"{directory} has no keys: run ops dkim new")
    for name in named:
        following = sorted((directory / name).glob(f"[!.]*.pem{NEXT_SUFFIX}"))
        yield SendingDomain(
            name,
            signers[name].keys if name in signers else (),
            tuple(map(read_key, following)),
            arguments.return_path or _bounce_domain(os.environ),
            arguments.address,
            getattr(arguments, "include", ()),
            getattr(arguments, "mx", None) or "",
        )


def _bounce_domain(environ: Mapping[str, str]) -> str | None:
    named = environ.get("SENDER_BOUNCE_DOMAIN")
    return check_domain(named) if named else None


def _domain(text: str) -> str:
    try:
        return check_domain(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _selector(text: str) -> str:
    if not SELECTOR.fullmatch(text):
        raise argparse.ArgumentTypeError("must be of ASCII letters, digits, - and .")
    return text


def _nameserver(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", "")
    host = host.strip("[]")
    if not host or not (port or "53").isdecimal() or not 0 < int(port or _DNS_PORT) <= _MAX_PORT:
        raise argparse.ArgumentTypeError("must be HOST or HOST:PORT")
    return host, int(port or _DNS_PORT)
