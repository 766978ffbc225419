"""The first words on a connection: who we are, where we want to, what both can take."""

import ssl
from pathlib import Path

import pytest
import trustme
from pamqp import commands
from yarl import URL

from shared.amqp import handshake, wire

HOST = "amqp://broker.example"


@pytest.mark.parametrize(
    ("url", "vhost"),
    [
        (HOST, "/"),
        (f"{HOST}/", "/"),
        (f"{HOST}/%2F", "/"),
        (f"{HOST}/%2f", "/"),
        (f"{HOST}//", "/"),
        (f"{HOST}/mail", "mail"),
        (f"{HOST}/a%2Fb", "a/b"),
        (f"{HOST}/a%20b+c", "a b+c"),
        (f"{HOST}/caf%C3%A9", "café"),
        (f"{HOST}/mail?cafile=x", "mail"),
    ],
)
def test_the_path_names_the_virtual_host(url: str, vhost: str) -> None:
    """Percent-encoded as in any URL; `/` is the broker's own default."""
    assert handshake.open_(URL(url)).virtual_host == vhost


@pytest.mark.parametrize(
    ("url", "response"),
    [
        (HOST, "\0guest\0guest"),
        ("amqp://ann:s3cret@broker.example", "\0ann\0s3cret"),
        ("amqp://a%40b:p%2Fq%3Ar%25@broker.example", "\0a@b\0p/q:r%"),
        ("amqp://ann:@broker.example", "\0ann\0"),
        ("amqp://ann@broker.example", "\0ann\0guest"),
        ("amqp://caf%C3%A9:%E2%82%AC@broker.example", "\0café\0€"),
    ],
)
def test_the_account_is_that_of_the_url(url: str, response: str) -> None:
    """Percent-encoded as well; the broker's usual account where none is named."""
    start = handshake.start(URL(url), "tests")

    assert (start.mechanism, start.response) == ("PLAIN", response)


def test_the_broker_is_told_who_comes_and_what_it_understands() -> None:
    """Without the capabilities it would hang up on a wrong login, and be silent when blocked."""
    told = handshake.start(URL(HOST), "sender publish").client_properties

    assert told == {
        "connection_name": "sender publish",
        "product": "Postrider",
        "capabilities": {
            "authentication_failure_close": True,
            "basic.nack": True,
            "connection.blocked": True,
            "consumer_cancel_notify": True,
            "publisher_confirms": True,
        },
    }


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        ((2047, 131_072, 60), (2047, 131_072, 10)),
        ((2047, 4096, 60), (2047, 4096, 10)),
        ((0, 0, 0), (65_535, wire.LARGEST_FRAME, 10)),
        ((10, 10_000_000, 5), (10, wire.LARGEST_FRAME, 10)),
    ],
    ids=["RabbitMQ's own", "small frames", "no limits", "large frames"],
)
def test_the_narrower_limit_is_agreed(
    offered: tuple[int, int, int], agreed: tuple[int, int, int]
) -> None:
    """The broker's, or ours where it would send frames of any size; the heartbeat is ours."""
    tune = handshake.tune(commands.Connection.Tune(*offered), 10)

    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == agreed


@pytest.mark.parametrize(
    ("url", "port"),
    [
        (HOST, 5672),
        ("amqps://broker.example", 5671),
        (f"{HOST}:5671", 5671),
        ("amqps://broker.example:4433/mail", 4433),
        ("amqp://[::1]:1234/", 1234),
    ],
)
def test_the_port_is_the_usual_one_unless_named(url: str, port: int) -> None:
    """5672, with TLS 5671."""
    assert handshake.port(URL(url)) == port


def test_plain_is_plain() -> None:
    """No context, whatever the query says."""
    assert handshake.tls(URL(f"{HOST}/?cafile=nowhere.pem")) is None


def test_tls_always_checks() -> None:
    """There is no way to say that a certificate or a name does not matter."""
    context = handshake.tls(URL("amqps://broker.example/?verify=verify_none"))

    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_tls_trusts_the_named_file_alone(tmp_path: Path) -> None:
    """A private authority in place of the system's list."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    context = handshake.tls(URL("amqps://broker.example").with_query(cafile=f"{tmp_path}/ca.pem"))

    assert context is not None
    assert context.cert_store_stats()["x509_ca"] == 1


def test_a_client_can_show_a_certificate(tmp_path: Path) -> None:
    """Key and certificate in two files, or in one."""
    issued = trustme.CA().issue_cert("sender@postrider.example")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    url = URL("amqps://broker.example")

    for query in (
        {"certfile": f"{tmp_path}/cert.pem", "keyfile": f"{tmp_path}/key.pem"},
        {"certfile": f"{tmp_path}/both.pem"},
    ):
        assert handshake.tls(url.with_query(query)) is not None


@pytest.mark.parametrize("name", ["cafile", "certfile"])
def test_a_file_that_is_not_there_is_an_os_error(name: str, tmp_path: Path) -> None:
    """As anything else that keeps us from the broker."""
    with pytest.raises(OSError, match=r"No such file"):
        handshake.tls(URL("amqps://broker.example").with_query({name: f"{tmp_path}/none.pem"}))
