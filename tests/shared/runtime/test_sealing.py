"""Sealing: a token opens only with its key, in its context, unchanged."""

import base64
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.sealing import KEY_BYTES, NONCE_BYTES, Sealer, key_id, read_keys

OLD, NEW, OTHER = (bytes([number]) * KEY_BYTES for number in (1, 2, 3))
SEALER = Sealer([NEW])
TOKEN = SEALER.seal(b"482913", "m1")


@given(content=st.binary(max_size=5000), context=st.text(st.characters(exclude_categories=["Cs"])))
def test_sealed_text_opens_unchanged(content: bytes, context: str) -> None:
    """Sealing and opening returns the content, in any context."""
    assert SEALER.open(SEALER.seal(content, context), context) == content


def test_the_token_is_text_and_tells_nothing() -> None:
    """A token is text for JSON, without content or key."""
    assert TOKEN.isascii()
    assert b"482913" not in base64.urlsafe_b64decode(TOKEN)
    assert NEW not in base64.urlsafe_b64decode(TOKEN)


def test_the_same_content_is_sealed_differently() -> None:
    """Each token has a new nonce, so that equal contents differ."""
    assert len({SEALER.seal(b"482913", "m1") for _ in range(100)}) == 100


def test_the_nonce_comes_from_outside() -> None:
    """With fixed random bytes the token is a known one."""
    fixed = Sealer([NEW], random=lambda size: b"n" * size)

    assert fixed.seal(b"x", "m1") == fixed.seal(b"x", "m1")
    assert base64.urlsafe_b64decode(fixed.seal(b"x", "m1"))[4:][:NONCE_BYTES] == b"n" * NONCE_BYTES


def test_a_seal_belongs_to_its_context() -> None:
    """The content of one message cannot be put into another."""
    with pytest.raises(ValueError, match="seal is broken"):
        SEALER.open(TOKEN, "m2")


@given(position=st.integers(4, len(base64.urlsafe_b64decode(TOKEN)) - 1), bit=st.integers(0, 7))
def test_one_changed_bit_breaks_it(position: int, bit: int) -> None:
    """A changed token does not open."""
    raw = bytearray(base64.urlsafe_b64decode(TOKEN))
    raw[position] ^= 1 << bit

    with pytest.raises(ValueError, match="seal is broken"):
        SEALER.open(base64.urlsafe_b64encode(raw).decode(), "m1")


@given(token=st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_other_text_is_a_value_error(token: str) -> None:
    """Opening any text fails in one way: ValueError."""
    with pytest.raises(ValueError, match=r"."):
        SEALER.open(token, "m1")


@pytest.mark.parametrize("length", range(len(base64.urlsafe_b64decode(TOKEN))))
def test_a_cut_token_is_a_value_error(length: int) -> None:
    """Half a token is refused, at whatever byte it was cut."""
    cut = base64.urlsafe_b64encode(base64.urlsafe_b64decode(TOKEN)[:length]).decode()

    with pytest.raises(ValueError, match=r"."):
        SEALER.open(cut, "m1")


def test_keys_rotate() -> None:
    """A new key at the front seals, and the old one still opens."""
    under_way = Sealer([OLD]).seal(b"482913", "m1")
    rotated = Sealer([NEW, OLD])

    assert rotated.open(under_way, "m1") == b"482913"
    assert Sealer([NEW]).open(rotated.seal(b"482913", "m1"), "m1") == b"482913"


def test_a_key_that_is_gone_opens_nothing() -> None:
    """The reason says that the key is missing."""
    with pytest.raises(ValueError, match="key that is not here"):
        Sealer([OTHER]).open(TOKEN, "m1")


def test_keys_are_read_from_text() -> None:
    """Keys are hex with commas, the newest first."""
    text = f"{NEW.hex()},{OLD.hex()}"

    assert read_keys(text) == (NEW, OLD)
    assert Sealer.from_text(text).open(TOKEN, "m1") == b"482913"


@pytest.mark.parametrize(
    "text", ["", ",", "hunter2", "ab" * 31, "ab" * 33, f"{NEW.hex()},", f"{NEW.hex()};{OLD.hex()}"]
)
def test_wrong_keys_are_not_in_the_error(text: str) -> None:
    """The message about a mistyped key does not repeat it."""
    with pytest.raises(ValueError, match="hex") as caught:
        read_keys(text)

    assert not text.strip(",") or text not in str(caught.value)


def test_a_key_has_an_id_that_does_not_reveal_it() -> None:
    """The id of a key is short, stable and no part of it."""
    key = secrets.token_bytes(KEY_BYTES)

    assert key_id(key) == key_id(key)
    assert key_id(key) not in key
    assert len({key_id(bytes([number]) * KEY_BYTES) for number in range(256)}) == 256
