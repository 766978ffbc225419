"""Addresses of brokers and databases: all mistakes are named, and no password."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from yarl import URL

from shared.config import url

UNREADABLE = "the host or the port, from 1 to 65535, cannot be read; "
MISSING = "cannot be read: No such file or directory"
NO_DATABASE = "must name a database, as in …@host/postrider"
SSL = "ssl: must be disable, allow, prefer, require, verify-ca or verify-full"
ESCAPED = "a '/', '?', '#', '%' or '@' of a password is written as %2F, %3F, %23, %25, %40"


def mistakes(check: Callable[[str], str], text: str) -> str:
    """Return the error of an address that is refused."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        check(text)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "amqp://localhost",
        "amqp://localhost/",
        "amqp://shop:p%2Fw@broker.example:5672/a%2Fb",
        "amqps://[2001:db8::1]:5671/",
        "amqps://broker",
        "amqp://shop:p,w@a.example,b.example:5673,[2001:db8::1]/mail",
    ],
)
def test_an_address_of_a_broker_is_taken_as_it_is(text: str) -> None:
    """User, password, port and virtual host have defaults, as AMQP's URIs have them."""
    assert url.check_broker(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "must begin with amqp:// or amqps://"),
        ("foo", "must begin with amqp:// or amqps://"),
        ("broker:5672", "must begin with amqp:// or amqps://"),
        ("http://hunter2@broker/", "must begin with amqp:// or amqps://"),
        ("amqp:broker", "must begin with amqp:// or amqps://"),
        ("amqp:///vhost", "must name a host"),
        ("amqp://u:hunter2@/", "must name a host"),
        ("amqp://127.0.0.1:notaport", f"{UNREADABLE}{ESCAPED}"),
        ("amqp://127.0.0.1:65536", f"{UNREADABLE}{ESCAPED}"),
        ("amqp://u:hunter2/@broker/", f"{UNREADABLE}{ESCAPED}"),
        ("amqp://[::1/", f"{UNREADABLE}{ESCAPED}"),
        ("amqp://broker:0", "the port must be from 1 to 65535"),
        ("amqp://u:hunter2%@broker/", ESCAPED),
        ("amqp://u:p@broker/#hunter2", ESCAPED),
        ("amqp://bro ker/", "must have no blanks in it"),
        ("amqp://u:hunter2@a,,b/", "must name a host"),
        ("amqp://a,b:0,c:0/", "the port must be from 1 to 65535"),
        ("amqps://a,b/?cafil=x", "cafil: there is no such parameter; perhaps cafile?"),
        ("amqp://broker/?heartbeat=3", "heartbeat: there is no such parameter"),
        ("amqps://broker/?cafil=x", "cafil: there is no such parameter; perhaps cafile?"),
        ("amqp://broker/?cafile=x", "cafile: certificates go with amqps://"),
        (
            "amqps://broker/?cafile=/no/ca&keyfile=/no/key",
            f"keyfile: needs a certfile; cafile: /no/ca {MISSING}; keyfile: /no/key {MISSING}",
        ),
        ("amqps://broker/?cafile=/", "cafile: / cannot be read: Is a directory"),
    ],
)
def test_a_wrong_address_of_a_broker_is_reported(text: str, expected: str) -> None:
    """A wrong address is reported before anything connects, without its password."""
    assert mistakes(url.check_broker, text) == expected


def test_an_address_names_each_node_of_a_cluster() -> None:
    """The hosts have one login, virtual host and TLS, and a port of their own or none."""
    found = url.brokers("amqps://ann:s,3cret@a,b:5673,[::1]:1/v?cafile=x")

    assert list(map(str, found)) == [
        "amqps://ann:s,3cret@a/v?cafile=x",
        "amqps://ann:s,3cret@b:5673/v?cafile=x",
        "amqps://ann:s,3cret@[::1]:1/v?cafile=x",
    ]
    assert url.masked_hosts("amqp://ann:s3cret@a,b/") == "amqp://ann:***@a/, amqp://ann:***@b/"


def test_certificates_are_read(tmp_path: Path, authority: trustme.CA) -> None:
    """Certificates and keys are read and compared before anything connects."""
    issued, other = (authority.issue_cert(name) for name in ("a.example", "b.example"))
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw"))
    for name, content in {
        "ca": authority.cert_pem.bytes(),
        "cert": issued.cert_chain_pems[0].bytes(),
        "key": issued.private_key_pem.bytes(),
        "other": other.private_key_pem.bytes(),
        "locked": locked,
        "empty": b"",
    }.items():
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_bytes(content)

    def address(**files: str) -> str:
        query = {parameter: f"{tmp_path}/{name}" for parameter, name in files.items()}
        return str(URL("amqps://broker/").with_query(query))

    good = address(cafile="ca", certfile="cert", keyfile="key")
    assert url.check_broker(good) == good
    found = [
        mistakes(url.check_broker, address(cafile="empty")),
        mistakes(url.check_broker, address(certfile="cert", keyfile="other")),
        mistakes(url.check_broker, address(certfile="cert", keyfile="locked")),
    ]
    (tmp_path / "key").chmod(0o644)
    found.append(mistakes(url.check_broker, good))
    assert found == [
        f"cafile: {tmp_path}/empty holds no certificate in PEM",
        "certfile and keyfile: must hold a certificate in PEM, and its key",
        "keyfile: a key with a password cannot be used",
        f"keyfile: others can read {tmp_path}/key (mode 0644): chmod 600 {tmp_path}/key",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+asyncpg://u:p@db.example:5432/postrider",
        "postgresql+asyncpg://u:p@db/postrider?ssl=verify-full",
        "postgresql+asyncpg://u:p@db/postrider?sslmode=verify-full",
        "postgresql+asyncpg://u:p@/postrider?host=/run/postgresql",
        "postgresql+asyncpg:///postrider",
        "postgresql+asyncpg://u:p,w@a.example,b.example:5433,[2001:db8::1]/postrider",
        "postgresql+asyncpg://db/postrider?prepared_statement_cache_size=0",
    ],
)
def test_an_address_of_a_database_is_taken_as_it_is(text: str) -> None:
    """An address has a host or a socket file, with or without a login."""
    assert url.check_database(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sqlite:///x", "must begin with postgresql+asyncpg://"),
        ("postgresql://u:hunter2@db/x", "must begin with postgresql+asyncpg://"),
        ("postgresql+asyncpg://db", NO_DATABASE),
        ("postgresql+asyncpg://u:hunter2@db:x/y", f"{UNREADABLE}{ESCAPED}"),
        ("postgresql+asyncpg://u:hunter2@a,,b/y", "must name a host"),
        ("postgresql+asyncpg://db/x?sslmode=1", f"sslmode{SSL.removeprefix('ssl')}"),
        (
            "postgresql+asyncpg://db/x?cafile=1",
            "cafile: there is no such parameter; perhaps sslrootcert?",
        ),
        (
            "postgresql+asyncpg://db/x?ssl=require&sslmode=require",
            "ssl and sslmode are the same: give one of them",
        ),
        (
            "postgresql+asyncpg://db/x?sslrootcert=/no/ca&sslkey=/no/key",
            f"sslkey: needs a sslcert; sslrootcert: /no/ca {MISSING}; sslkey: /no/key {MISSING}",
        ),
        ("postgresql+asyncpg://db/?ssl=on&port=x", f"{NO_DATABASE}; {SSL}; port: must be a number"),
    ],
)
def test_a_wrong_address_of_a_database_is_reported(text: str, expected: str) -> None:
    """All mistakes in a database's address are reported before anything connects."""
    assert mistakes(url.check_database, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amqp://broker/", "must begin with http:// or https://"),
        ("http://broker:15672/?cafile=x", "cafile: certificates go with https://"),
        ("https://broker/?cafile=/no/ca", f"cafile: /no/ca {MISSING}"),
        ("https://broker/?cafil=x", "cafil: there is no such parameter; perhaps cafile?"),
    ],
)
def test_a_wrong_address_of_the_management_api_is_reported(text: str, expected: str) -> None:
    """It has the parameters of TLS that a broker's address has."""
    assert mistakes(url.check_management, text) == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://ann:s3cret@h:1/v", "amqp://ann:***@h:1/v"),
        ("amqps://h/v?cafile=x", "amqps://h/v"),
        ("amqps://ann:s3cret@h/v?keyfile=x", "amqps://ann:***@h/v"),
        ("amqp://ann@h/", "amqp://ann@h/"),
        ("postgresql+asyncpg://ann:s3cret@h/db?ssl=require", "postgresql+asyncpg://ann:***@h/db"),
    ],
)
def test_no_password_is_shown(text: str, shown: str) -> None:
    """A masked address shows no password."""
    assert url.masked(URL(text)) == shown
