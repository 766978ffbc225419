"""The rule: the verdict on sums, and its reason."""

import pytest

from services.classifier.rule import Evidence, Requirements, VerdictRule
from shared.contracts import Verdict

STRICT = VerdictRule(1000, Requirements(recipients=100, undetermined=0.01))


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        (Evidence(), Verdict.UNKNOWN),
        (Evidence(delivered=999), Verdict.UNKNOWN),
        (Evidence(delivered=1000), Verdict.UNKNOWN),
        (Evidence(delivered=1001), Verdict.CATCH_ALL),
        (Evidence(delivered=1001, undetermined=5000), Verdict.CATCH_ALL),
        (Evidence(delivered=10_000_000_000), Verdict.CATCH_ALL),
        (Evidence(bounced=1), Verdict.NOT_CATCH_ALL),
        (Evidence(delivered=1001, bounced=1), Verdict.NOT_CATCH_ALL),
    ],
)
def test_counts(evidence: Evidence, verdict: Verdict) -> None:
    """More than 1000 deliveries and no bounce are catch-all; one bounce is not catch-all."""
    assert VerdictRule().verdict(evidence) == verdict


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        (Evidence(1000, 0, 0, 1000), Verdict.UNKNOWN),
        (Evidence(1001, 0, 0, 99), Verdict.UNKNOWN),
        (Evidence(1001, 0, 0, 100), Verdict.CATCH_ALL),
        (Evidence(2000, 0, 20, 100), Verdict.CATCH_ALL),
        (Evidence(2000, 0, 21, 100), Verdict.UNKNOWN),
        (Evidence(2000, 1, 21, 100), Verdict.NOT_CATCH_ALL),
    ],
)
def test_evidence(evidence: Evidence, verdict: Verdict) -> None:
    """The mode `evidence` also requires recipients, and few refusals that may hide a bounce."""
    assert STRICT.verdict(evidence) == verdict


def test_the_threshold_can_be_set() -> None:
    """The threshold can be set."""
    assert VerdictRule(2).verdict(Evidence(delivered=2)) == Verdict.UNKNOWN
    assert VerdictRule(2).verdict(Evidence(delivered=3)) == Verdict.CATCH_ALL


@pytest.mark.parametrize(
    ("rule", "evidence", "reason"),
    [
        (VerdictRule(), Evidence(), "unknown: 0 delivered, not more than 1000, and no bounce"),
        (VerdictRule(), Evidence(1001), "catch-all: 1001 delivered, more than 1000, and no bounce"),
        (VerdictRule(), Evidence(5, 2), "not-catch-all: 2 bounced, and one bounce is enough"),
        (
            STRICT,
            Evidence(1001, 0, 0, 9),
            (
                "unknown: 1001 delivered, more than 1000, and no bounce,"
                " but to about 9 recipients, fewer than 100"
            ),
        ),
        (
            STRICT,
            Evidence(1001, 0, 11, 640),
            (
                "unknown: 1001 delivered, more than 1000, and no bounce,"
                " but 11 undetermined refusals, more than 1.00% of that"
            ),
        ),
        (
            STRICT,
            Evidence(1001, 0, 0, 640),
            "catch-all: 1001 delivered, more than 1000, and no bounce, to about 640 recipients",
        ),
    ],
)
def test_the_reason_names_counts_and_rule(
    rule: VerdictRule, evidence: Evidence, reason: str
) -> None:
    """The reason of a verdict names counts and rule."""
    assert rule.reason(evidence) == reason


def test_rules_with_one_name_are_one() -> None:
    """Rules with different verdicts have different names, by which a change of rule is noticed."""
    rules = [
        VerdictRule(),
        VerdictRule(2),
        STRICT,
        VerdictRule(2, STRICT.requirements),
        VerdictRule(1000, Requirements(99, 0.01)),
        VerdictRule(1000, Requirements(100, 0.02)),
    ]

    assert len({str(rule) for rule in rules}) == len(rules)
    assert str(VerdictRule()) == "counts 1000"
