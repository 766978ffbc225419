"""Tests of logins: each mechanism follows the server's challenges and sends nothing else."""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.sender.smtp.relay import Auth, Login
from shared.contracts import Stage
from tests.sender.mails import ANNA, a_mail, a_pool, a_relay, of, sent
from tests.sender.scripted import AND_CLOSE, scripted

DELIVERED = [(Stage.DOT, 250)]
WORD = "tanstaaftanstaaf"
NAME64, WORD64 = "dGlt", "dGFuc3RhYWZ0YW5zdGFhZg=="
PLAIN64 = "AHRpbQB0YW5zdGFhZnRhbnN0YWFm"
SIGNED64 = "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"
XOAUTH64 = "dXNlcj10aW0BYXV0aD1CZWFyZXIgdGFuc3RhYWZ0YW5zdGFhZgEB"
STAMP = b"334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\r\n"
OK = b"235 OK\r\n"
ERROR = b"334 eyJzdGF0dXMiOiI0MDEifQ==\r\n"  # {"status":"401"}
EMPTY = b"334 \r\n"


def asks(prompt: str) -> bytes:
    """Return a challenge."""
    return f"334 {b64encode(prompt.encode()).decode()}\r\n".encode()


def a_login(auth: Auth, tmp_path: Path) -> Login:
    """Return the account of RFC 4616's example, with its secret as password or token."""
    path = tmp_path / "token"
    path.write_text(WORD)
    if auth is Auth.XOAUTH2:
        return Login("tim", auth=auth, token_file=path)
    return Login("tim", WORD, auth)


# The examples of RFC 4616 (PLAIN), RFC 2195 (CRAM-MD5), draft-murchison-sasl-login and Google's
# documentation of XOAUTH2; and replies that were seen of servers.
@pytest.mark.parametrize(
    ("auth", "script", "said"),
    [
        (Auth.PLAIN, {"AUTH": OK}, [f"AUTH PLAIN {PLAIN64}"]),
        (Auth.PLAIN, {"AUTH": EMPTY, PLAIN64: OK}, [f"AUTH PLAIN {PLAIN64}", PLAIN64]),
        (Auth.PLAIN, {"AUTH": b"334\r\n", PLAIN64: OK}, [f"AUTH PLAIN {PLAIN64}", PLAIN64]),
        (
            Auth.LOGIN,
            {"AUTH": asks("Username:"), NAME64: asks("Password:"), WORD64: OK},
            ["AUTH LOGIN", NAME64, WORD64],
        ),
        (
            Auth.LOGIN,
            {"AUTH": asks("User Name\0"), NAME64: asks("Password\0"), WORD64: OK},
            ["AUTH LOGIN", NAME64, WORD64],
        ),
        (
            Auth.LOGIN,
            {"AUTH": EMPTY, NAME64: EMPTY, WORD64: OK},
            ["AUTH LOGIN", NAME64, WORD64],
        ),
        (
            Auth.LOGIN,
            {"AUTH": b"334 Username:\r\n", NAME64: b"334 Password:\r\n", WORD64: OK},
            ["AUTH LOGIN", NAME64, WORD64],
        ),
        (Auth.CRAM_MD5, {"AUTH": STAMP, SIGNED64: OK}, ["AUTH CRAM-MD5", SIGNED64]),
        (Auth.XOAUTH2, {"AUTH": OK}, [f"AUTH XOAUTH2 {XOAUTH64}"]),
        (Auth.XOAUTH2, {"AUTH": EMPTY, XOAUTH64: OK}, [f"AUTH XOAUTH2 {XOAUTH64}", XOAUTH64]),
    ],
)
async def test_logins(
    auth: Auth, script: Mapping[str, bytes], said: list[str], tmp_path: Path
) -> None:
    """Each challenge gets the response of the mechanism's standard."""
    offered = {"EHLO": f"250-x\r\n250 AUTH {auth.upper()}\r\n".encode()}
    async with (
        scripted({**offered, **script}) as server,
        a_pool(a_relay(server.port, login=a_login(auth, tmp_path))) as pool,
    ):
        assert await sent(pool) == DELIVERED

    assert [line.decode().strip() for line in server.lines[1 : len(said) + 1]] == said


@pytest.mark.parametrize(
    ("auth", "script", "said"),
    [
        (Auth.PLAIN, {"AUTH": asks("Password:")}, 1),
        (Auth.PLAIN, {"AUTH": EMPTY, PLAIN64: EMPTY}, 2),
        (Auth.LOGIN, {"AUTH": asks("Password:")}, 1),
        (Auth.LOGIN, {"AUTH": b"334 password\r\n"}, 1),
        (Auth.LOGIN, {"AUTH": asks("Username:"), NAME64: asks("Username:")}, 2),
        (Auth.LOGIN, {"AUTH": asks("Username:"), NAME64: asks("Verification code:")}, 2),
        (Auth.LOGIN, {"AUTH": EMPTY, NAME64: asks("Password:"), WORD64: asks("Password:")}, 3),
        (Auth.CRAM_MD5, {"AUTH": EMPTY}, 1),
        (Auth.CRAM_MD5, {"AUTH": b"334 What?\r\n"}, 1),
        (Auth.CRAM_MD5, {"AUTH": STAMP, SIGNED64: STAMP}, 2),
        (Auth.XOAUTH2, {"AUTH": EMPTY, XOAUTH64: ERROR, "": ERROR}, 3),
    ],
)
async def test_unexpected_challenges(
    auth: Auth, script: Mapping[str, bytes], said: int, tmp_path: Path
) -> None:
    """An unknown challenge gets no response, above all no secret."""
    offered = {"EHLO": f"250-x\r\n250 AUTH {auth.upper()}\r\n".encode()}
    async with (
        scripted({**offered, **script}) as server,
        a_pool(a_relay(server.port, login=a_login(auth, tmp_path))) as pool,
    ):
        reply = of(await pool.send(a_mail()))[ANNA]

    assert (reply.stage, reply.code) == (Stage.AUTH, 0)
    assert "asks for something else" in reply.text
    assert len(server.lines) == 1 + said


@pytest.mark.parametrize("auth", [Auth.PLAIN, Auth.LOGIN, Auth.CRAM_MD5, Auth.XOAUTH2])
@pytest.mark.parametrize("end", [b"", AND_CLOSE])
async def test_refused(auth: Auth, end: bytes, tmp_path: Path) -> None:
    """The server's refusal is reported without secrets, also when it then closes."""
    no = f"535 5.7.8 No: {WORD} {WORD64} {PLAIN64} {SIGNED64} {XOAUTH64}\r\n".encode() + end
    script = {
        "AUTH": {
            Auth.PLAIN: no,
            Auth.LOGIN: asks("Username:"),
            Auth.CRAM_MD5: STAMP,
            Auth.XOAUTH2: ERROR,
        }[auth],
        "EHLO": f"250-x\r\n250 AUTH {auth.upper()}\r\n".encode(),
        NAME64: asks("Password:"),
        **dict.fromkeys((WORD64, SIGNED64, ""), no),
    }
    said = {
        Auth.PLAIN: PLAIN64,
        Auth.LOGIN: WORD64,
        Auth.CRAM_MD5: SIGNED64,
        Auth.XOAUTH2: XOAUTH64,
    }
    async with (
        scripted(script) as server,
        a_pool(a_relay(server.port, login=a_login(auth, tmp_path))) as pool,
    ):
        reply = of(await pool.send(a_mail()))[ANNA]

    assert (reply.stage, reply.code, reply.enhanced) == (Stage.AUTH, 535, "5.7.8")
    assert WORD not in reply.text
    assert said[auth] not in reply.text
