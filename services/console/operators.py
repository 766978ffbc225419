"""Pure: the operators, by the settings as they are now: how each logs in, and who may act."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

OPERATOR_NAME = "operator"  # in the audit, of everybody who has the token


class LoginWay(StrEnum):
    """The way by which an operator has logged in."""

    TOKEN = auto()
    PROVIDER = auto()


@dataclass(frozen=True, slots=True)
class Operators:
    """The token of those who may act, and the names that the provider may send.

    A name is an address that the provider has verified, or a subject (`sub`).
    """

    token: str = field(repr=False)
    issuer: str | None = None  # of the provider
    viewers: Sequence[str] = ()
    actors: Sequence[str] = ()

    def find(self, claims: Mapping[str, Any]) -> str | None:
        """Return the name in an ID token that is on a list, None without one.

        An address counts only if the provider has verified it.
        """
        names = [str(claims["sub"])]
        if claims.get("email_verified") is True and claims.get("email"):
            names.insert(0, str(claims["email"]))
        for known in (self.actors, self.viewers):
            for name in names:
                if _is_in(name, known):
                    return name
        return None

    def may_act(self, way: str, name: str) -> bool | None:
        """Return whether an operator may act, or only see; None for nobody of the operators."""
        if way == LoginWay.TOKEN:
            return True
        if _is_in(name, self.actors):
            return True
        return False if _is_in(name, self.viewers) else None

    def secret(self, way: str) -> str | None:
        """Return the text on which logins of a way rest: another one ends their sessions."""
        return {LoginWay.TOKEN.value: self.token, LoginWay.PROVIDER.value: self.issuer}.get(way)


def _is_in(name: str, known: Sequence[str]) -> bool:
    return name.casefold() in {each.casefold() for each in known}
