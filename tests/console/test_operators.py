"""The operators: who is on a list, and what each may do."""

from typing import Any

import pytest

from services.console.operators import LoginWay, Operators

OPERATORS = Operators(
    "a token",
    "https://id.example",
    viewers=("bob@ops.example", "s-eve"),
    actors=("ann@ops.example",),
)
ANN = {"sub": "s-ann", "email": "Ann@ops.example", "email_verified": True}


@pytest.mark.parametrize(
    ("person", "found"),
    [
        (ANN, ("Ann@ops.example", True)),
        ({**ANN, "email_verified": False}, (None, None)),
        ({**ANN, "email": "bob@ops.example"}, ("bob@ops.example", False)),
        ({"sub": "s-eve", "email": "x@x.example"}, ("s-eve", False)),
        ({"sub": "ann"}, (None, None)),
    ],
)
def test_an_operator_is_on_a_list(
    person: dict[str, Any], found: tuple[str | None, bool | None]
) -> None:
    """An address counts if the provider has verified it, and the subject always."""
    name = OPERATORS.find(person)

    assert (name, OPERATORS.may_act(LoginWay.PROVIDER, name or "s-9")) == found
