"""Registering and revoking clients."""

import orjson
import pytest

from services.gateway.api import body as bodies
from services.gateway.api.clients import NewClient
from services.gateway.api.problem import Problem


def refusal(fields: object) -> Problem:
    """Return the problem of a wrong body."""
    with pytest.raises(Problem) as caught:
        bodies.read(NewClient, orjson.dumps(fields))
    return caught.value


@pytest.mark.parametrize("name", ["", "Shop", "-shop", "a/b", "a b", "shop\n", "x" * 65, "é"])
def test_client_ids_are_plain(name: str) -> None:
    """A client's id is safe in paths and logs."""
    assert refusal({"id": name}).type.status == 422


@pytest.mark.parametrize("senders", [["Ann <a@x.example>"], ["@localhost"], ["x"], "a@x.example"])
def test_senders_are_addresses_and_domains(senders: object) -> None:
    """A sender that is neither an address nor a domain is a 422 at the registration."""
    assert refusal({"id": "shop", "senders": senders}).type.status == 422
