"""Pure: sessions of operators in signed cookies, and the tokens of their forms."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple, Self

import jwt

from services.console.operators import LoginWay, Operators
from shared.runtime.sealing import read_keys

ALGORITHM = "HS256"  # the only one: a token's own header never chooses (RFC 8725 3.1)
NOTE_SECONDS = 60.0  # in which a page may show the note of the action before it
# Kinds of tokens, of which none is valid as another.
SESSION, NOTE, LOGIN = "session", "note", "login"
_PURPOSE = b"sessions of the console"


@dataclass(frozen=True, slots=True)
class Session:
    """An operator who is logged in: the name, and whether actions are allowed."""

    id: str
    name: str
    may_act: bool
    expires_at: float  # Unix time
    way: str  # of the login


class Note(NamedTuple):
    """The result of an action, for the page after it."""

    text: str
    failed: bool


class Sessions:
    """Signs and reads cookies; the first of the keys signs. `clock` returns Unix time.

    A cookie has the name of the operator, not the right to act: that follows from the settings, so
    that it ends with them.
    """

    def __init__(
        self,
        keys: tuple[bytes, ...],
        seconds: float,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        operators: Operators,
    ) -> None:
        self._keys = [hmac.digest(key, _PURPOSE, sha256) for key in keys]
        self.seconds = seconds
        self._clock = clock
        self._new_id = new_id
        self._operators = operators

    @classmethod
    def from_text(
        cls,
        text: str,
        seconds: float,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        operators: Operators,
    ) -> Self:
        """Return the sessions of keys as hex. Raises ValueError."""
        return cls(read_keys(text), seconds, clock, new_id, operators)

    def begin(self, name: str, way: LoginWay) -> Session:
        """Return a new session of an operator."""
        may_act = self._operators.may_act(way, name) is True
        return Session(self._new_id(), name, may_act, self._clock() + self.seconds, way)

    def cookie(self, session: Session) -> str:
        """Return the signed text of a session."""
        mark = _mark(self._keys[0], f"{session.way} {self._operators.secret(session.way)}")
        claims = {"jti": session.id, "sub": session.name, "way": session.way, "mark": mark}
        return self.sign(SESSION, claims, session.expires_at)

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie, None if it is not valid or is over.

        It is over with its time, with the token or the provider of its login, and with the
        operator's name on the list.
        """
        found = self.verify(SESSION, cookie)
        if found is None:
            return None
        name, way = found["sub"], found.get("way", "")
        may_act, secret = self._operators.may_act(way, name), self._operators.secret(way)
        if may_act is None or secret is None or not self._is_mark(f"{way} {secret}", found["mark"]):
            return None
        return Session(found["jti"], name, may_act, found["exp"], way)

    def form_token(self, session: Session) -> str:
        """Return the token that each form of a session sends: other sites cannot know it."""
        return _mark(self._keys[0], f"form {session.id}")

    def is_form_token(self, session: Session, token: str) -> bool:
        """Return whether a token is the one of this session's forms."""
        return self._is_mark(f"form {session.id}", token)

    def _is_mark(self, text: str, mark: str) -> bool:
        made = (_mark(key, text) for key in self._keys)
        return any(hmac.compare_digest(each.encode(), mark.encode()) for each in made)

    def note(self, session: Session, text: str, *, failed: bool = False) -> str:
        """Return a signed text about an action, which the next page of this session may show."""
        claims = {"jti": session.id, "text": text, "failed": failed}
        return self.sign(NOTE, claims, self._clock() + NOTE_SECONDS)

    def read_note(self, session: Session, token: str) -> Note | None:
        """Return a note of this session, None if it is another's or too old."""
        found = self.verify(NOTE, token)
        if found is None or found["jti"] != session.id:
            return None
        return Note(found["text"], found["failed"])

    def attempt(self, claims: dict[str, Any], seconds: float) -> str:
        """Return the signed text of a login that goes on elsewhere for so many seconds."""
        return self.sign(LOGIN, claims, self._clock() + seconds)

    def sign(self, kind: str, claims: dict[str, Any], expires_at: float) -> str:
        """Return a token of one kind, valid until a Unix time."""
        return jwt.encode(
            {**claims, "exp": expires_at}, self._keys[0], ALGORITHM, headers={"typ": kind}
        )

    def verify(self, kind: str, token: str) -> dict[str, Any] | None:
        """Return the claims of a token of one kind, None if it is not valid or is over."""
        for key in self._keys:
            try:
                found = jwt.decode_complete(
                    token,
                    key,
                    algorithms=[ALGORITHM],
                    options={"require": ["exp"], "verify_exp": False},
                )
            except (jwt.PyJWTError, ValueError):
                continue
            claims: dict[str, Any] = found["payload"]
            is_valid = found["header"].get("typ") == kind and self._clock() < claims["exp"]
            return claims if is_valid else None
        return None


def _mark(key: bytes, text: str) -> str:
    """Return what only the owner of a key can make of a text."""
    return hmac.digest(key, text.encode(), sha256).hex()
