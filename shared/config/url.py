"""The URLs of brokers, databases and HTTP servers: checked before anything connects, masked."""

import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from yarl import URL

from shared.config.sources import check_private, perhaps, reason

DRIVER: Final = "postgresql+asyncpg"  # as SQLAlchemy names it
# The parameters of TLS: the files of trusted certificates, of our certificate, and of its key.
_CERTIFICATE_FILES: Final = ("cafile", "certfile", "keyfile")
# Of a database by libpq's names: https://www.postgresql.org/docs/current/libpq-connect.html
_DATABASE_FILES: Final = ("sslrootcert", "sslcert", "sslkey")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
DATABASE_TLS: Final = ("sslmode", *_DATABASE_FILES)
# Others that asyncpg takes: https://magicstack.github.io/asyncpg/current/api/index.html
_DATABASE_PARAMETERS: Final = (
    *("host", "port", "ssl", "prepared_statement_cache_size"),
    *DATABASE_TLS,
)
_OTHER_NAMES: Final = dict(zip(_CERTIFICATE_FILES, _DATABASE_FILES, strict=True))
_WITH_TLS: Final = ("amqps", "https")
_NO_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPED: Final = "a '/', '?', '#', '%' or '@' of a password is written as %2F, %3F, %23, %25, %40"


def check_broker(text: str) -> str:
    """Return the address of a broker as it is. Raise ValueError that names all its mistakes.

    No message repeats the address, which may hold a password. The files that it names are read.
    """
    return _checked(text, ("amqp", "amqps"), _broker_mistakes, each_host(text))


def check_database(text: str) -> str:
    """Return the address of a database as it is. Raise ValueError as `check_broker` does."""
    return _checked(text, (DRIVER,), _database_mistakes, each_host(text))


def check_http(text: str) -> str:
    """Return the address of an HTTP server as it is. Raise ValueError as `check_broker` does."""
    return _checked(text, ("http", "https"), _http_mistakes)


def check_management(text: str) -> str:
    """Return the address of RabbitMQ's management API as it is. Raise as `check_broker` does."""
    return _checked(text, ("http", "https"), _broker_mistakes)


def check_certificates(path: Path) -> Path:
    """Return the path of a file of trusted certificates. Raise ValueError if it has none."""
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:  # a kind of OSError
        raise ValueError(f"{path} holds no certificate in PEM") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {reason(error)}") from None
    return path


def check_pair(certificate: Path, key: Path) -> None:
    """Raise ValueError unless a file holds a certificate in PEM, and the other one its key."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError:
        raise ValueError("must hold a certificate in PEM, and its key") from None


def tls(url: URL) -> ssl.SSLContext | None:
    """Return the context of an amqps or https address; `cafile` names trusted certificates.

    Name and certificate are always checked. Raises OSError when a file cannot be read or used,
    ValueError for a key with a password: OpenSSL would ask for it on the terminal.
    """
    return _context(url, _CERTIFICATE_FILES) if url.scheme in _WITH_TLS else None


def _context(url: URL, names: tuple[str, str, str]) -> ssl.SSLContext:
    authority, certificate, key = map(url.query.get, names)
    context = ssl.create_default_context(cafile=authority)
    if certificate:
        context.load_cert_chain(certificate, key, password=_no_password)
    return context


def _no_password() -> str:
    raise ValueError("a key with a password cannot be used")


def brokers(text: str) -> list[URL]:
    """Return the address of each node of a cluster, whose hosts are separated by commas."""
    return [URL(each) for each in each_host(text)]


def each_host(text: str) -> list[str]:
    """Return an address for each host, which commas separate; all but host and port is the same."""
    scheme, separator, rest = text.partition("://")
    place = re.split("[/?#]", rest, maxsplit=1)[0]
    account, at, hosts = place.rpartition("@")
    begin, end = f"{scheme}{separator}{account}{at}", rest.removeprefix(place)
    return [f"{begin}{host}{end}" for host in hosts.split(",")]


def masked_hosts(text: str) -> str:
    """Return the address of one server or several for a log or an error, see `masked`."""
    return ", ".join(masked(URL(each)) for each in each_host(text))


def masked(url: URL) -> str:
    """Return an address for a log or an error: without the password and without parameters."""
    return str((url.with_password("***") if url.password else url).with_query(None))


def _checked(
    text: str,
    schemes: tuple[str, ...],
    mistakes: Callable[[URL], Iterable[str]],
    parts: Sequence[str] = (),
) -> str:
    """Check `text`, or the addresses that it stands for, of which a mistake is named once."""
    parts = parts or (text,)
    found = [mistake for each in parts for mistake in _form_mistakes(each, schemes)]
    if not found:
        found = [mistake for each in parts for mistake in mistakes(URL(each))]
    if found:
        raise ValueError("; ".join(dict.fromkeys(found)))
    return text


def _form_mistakes(text: str, schemes: tuple[str, ...]) -> Iterator[str]:
    """Yield why a text is no address at all; nothing more can be checked then."""
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in schemes:
        yield f"must begin with {' or '.join(f'{each}://' for each in schemes)}"
        return
    if any(char.isspace() or not char.isprintable() for char in text):
        yield "must have no blanks in it"
        return
    try:
        url = URL(text)
    except ValueError:
        yield f"the host or the port, from 1 to 65535, cannot be read; {_ESCAPED}"
        return
    if url.explicit_port == 0:
        yield "the port must be from 1 to 65535"
    if "#" in text or _NO_ESCAPE.search(text):
        yield _ESCAPED


def _broker_mistakes(url: URL) -> Iterator[str]:
    if not url.host:
        yield "must name a host"
    yield from _parameter_mistakes(url, _CERTIFICATE_FILES, {})
    files = [name for name in _CERTIFICATE_FILES if name in url.query]
    if files and url.scheme not in _WITH_TLS:
        yield f"{', '.join(files)}: certificates go with {url.scheme}s://"
    else:
        yield from _file_mistakes(url, _CERTIFICATE_FILES)


def _file_mistakes(url: URL, names: tuple[str, str, str]) -> Iterator[str]:
    authority, certificate, key = names
    files = {name: url.query[name] for name in names if name in url.query}
    if key in files and certificate not in files:
        yield f"{key}: needs a {certificate}"
    if unread := [f"{name}: {why}" for name, path in files.items() if (why := _unreadable(path))]:
        yield from unread
        return
    checks = {authority: check_certificates, key: check_private}
    for name in checks.keys() & files.keys():
        try:
            checks[name](Path(files[name]))
        except ValueError as error:
            yield f"{name}: {error}"
            return
    try:
        _context(url, names)
    except ssl.SSLError:
        yield f"{certificate} and {key}: must hold a certificate in PEM, and its key"
    except ValueError as error:
        yield f"{key}: {error}"


def _unreadable(path: str) -> str | None:
    try:
        Path(path).open("rb").close()
    except OSError as error:
        return f"{path} cannot be read: {reason(error)}"
    return None


def _database_mistakes(url: URL) -> Iterator[str]:
    if not (url.host or "host" in url.query) and url.user:
        yield "must name a host"
    if not url.path.removeprefix("/"):
        yield "must name a database, as in …@host/postrider"
    yield from _parameter_mistakes(url, _DATABASE_PARAMETERS, _OTHER_NAMES)
    for name in ("ssl", "sslmode"):
        if url.query.get(name, _SSL_MODES[0]) not in _SSL_MODES:
            yield f"{name}: must be {', '.join(_SSL_MODES[:-1])} or {_SSL_MODES[-1]}"
    if "ssl" in url.query and "sslmode" in url.query:
        yield "ssl and sslmode are the same: give one of them"
    yield from _file_mistakes(url, _DATABASE_FILES)
    for name in ("port", "prepared_statement_cache_size"):
        if not url.query.get(name, "0").isdecimal():
            yield f"{name}: must be a number"


def _http_mistakes(url: URL) -> Iterator[str]:
    if not url.host:
        yield "must name a host"
    if url.raw_query_string:
        yield "must have nothing behind a '?'"


def _parameter_mistakes(
    url: URL, known: tuple[str, ...], others: Mapping[str, str]
) -> Iterator[str]:
    meant = {**{name: name for name in known}, **others}
    for name in dict.fromkeys(url.query):
        if name not in known:
            yield f"{name}: there is no such parameter{perhaps(name, meant)}"
