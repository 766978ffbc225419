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
    """An id stands in paths and logs as it is."""
    assert refusal({"id": name}).type.status == 422


@pytest.mark.parametrize("senders", [["Ann <a@x.example>"], ["@localhost"], ["x"], "a@x.example"])
def test_senders_are_addresses_and_domains(senders: object) -> None:
    """A list that allows nothing by mistake would be found out by its client only."""
    assert refusal({"id": "shop", "senders": senders}).type.status == 422
