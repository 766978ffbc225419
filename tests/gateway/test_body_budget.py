"""The memory of large bodies in flight."""

import pytest

from services.gateway.api.problem import Problem
from services.gateway.body_budget import BodyBudget


def refused(budget: BodyBudget, client: str, size: int) -> bool:
    """Return whether a body is refused; it is released at once if it is not."""
    try:
        budget.hold(client, size)()
    except Problem as problem:
        return (problem.kind.status, problem.headers) == (503, {"Retry-After": "1"})
    return False


def test_a_client_has_half_and_leaves_the_rest_to_others() -> None:
    """The bodies of one client take no memory from another."""
    budget = BodyBudget(100, 10)
    budget.hold("shop", 50)

    assert refused(budget, "shop", 1)
    assert not refused(budget, "bank", 50)


def test_all_clients_together_have_the_total() -> None:
    """However many there are."""
    budget = BodyBudget(100, 10)
    for client in ("shop", "bank", "club"):
        budget.hold(client, 33)

    assert refused(budget, "choir", 2)
    assert not refused(budget, "choir", 1)


def test_an_answered_request_makes_room() -> None:
    """Its body is counted until then and no longer."""
    budget = BodyBudget(100, 10)
    release = budget.hold("shop", 50)
    assert refused(budget, "shop", 10)

    release()

    assert not refused(budget, "shop", 50)


@pytest.mark.parametrize("total", [1, 60, 100])
def test_one_body_of_the_largest_size_always_fits(total: int) -> None:
    """A budget set too small must not refuse what the limit of one body allows."""
    assert not refused(BodyBudget(total, 80), "shop", 80)
