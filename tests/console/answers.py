"""Services that answer the console's questions by the examples of the contracts."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shared import topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import (
    AddClientKey,
    AddSuppressions,
    CancelEmail,
    ChangeClient,
    ChangeWebhook,
    ClientAnswered,
    ClientsListed,
    ContentRendered,
    ContentTypeAnswered,
    ContentTypesListed,
    Contract,
    CountDomains,
    CountEmails,
    DescribeClient,
    DescribeContentType,
    DescribeDomain,
    DescribeEmail,
    DescribeRelays,
    DescribeSuppression,
    DescribeWebhook,
    DomainDescribed,
    DomainsCounted,
    DomainsListed,
    EmailCancelling,
    EmailDescribed,
    EmailsCounted,
    EmailsListed,
    EmailsRepeated,
    EndSubscription,
    ListClients,
    ListContentTypes,
    ListDomains,
    ListEmails,
    ListRuns,
    ListSubscriptions,
    ListSuppressions,
    ListWebhookDeliveries,
    ListWebhooks,
    ListWebhookTries,
    RegisterClient,
    RelaysDescribed,
    RemoveSuppressions,
    RenderContent,
    RepeatEmails,
    ReplayWebhook,
    ResumeContentType,
    RevokeClient,
    RevokeClientKey,
    RunsListed,
    SchedulingAnswered,
    SendTestEvent,
    SubscriptionAnswered,
    SubscriptionsListed,
    SuppressionsChanged,
    SuppressionsListed,
    UnscheduleEmail,
    WebhookAnswered,
    WebhookDeliveriesListed,
    WebhookReplayed,
    WebhooksListed,
    WebhookTriesListed,
)
from tests.shared.golden.examples import EXAMPLES

A = TypeVar("A", bound=Contract)
_EXAMPLES = {type(each): each for each in EXAMPLES}
# Pages besides those of the navigation, each with something on it.
PAGES = (
    "/messages/m-1",
    "/webhooks/w-1",
    "/clients/shop",
    "/webhooks/w-1/tries",
    "/content/weekly",
    "/content/news/runs/20261121T123015Z-19fba0e995b9",
    "/domains?domain=example.com",
    "/suppressions?email=ada%40example.com",
)
ANSWERS: Mapping[str, Mapping[type[Contract], type[Contract]]] = {
    topology.LEDGER_QUESTIONS: {
        CountEmails: EmailsCounted,
        DescribeEmail: EmailDescribed,
        ListEmails: EmailsListed,
        DescribeSuppression: SuppressionsListed,
        ListSuppressions: SuppressionsListed,
        AddSuppressions: SuppressionsChanged,
        RemoveSuppressions: SuppressionsChanged,
    },
    topology.SENDER_QUESTIONS: {
        CancelEmail: EmailCancelling,
        DescribeRelays: RelaysDescribed,
    },
    topology.CLASSIFIER_QUESTIONS: {
        CountDomains: DomainsCounted,
        DescribeDomain: DomainDescribed,
        ListDomains: DomainsListed,
    },
    topology.SCHEDULER_QUESTIONS: {
        DescribeContentType: ContentTypeAnswered,
        ResumeContentType: ContentTypeAnswered,
        ListContentTypes: ContentTypesListed,
        RenderContent: ContentRendered,
        ListRuns: RunsListed,
        RepeatEmails: EmailsRepeated,
        ListSubscriptions: SubscriptionsListed,
        EndSubscription: SubscriptionAnswered,
        UnscheduleEmail: SchedulingAnswered,
    },
    topology.GATEWAY_QUESTIONS: {
        ListClients: ClientsListed,
        DescribeClient: ClientAnswered,
        RegisterClient: ClientAnswered,
        ChangeClient: ClientAnswered,
        RevokeClient: ClientAnswered,
        AddClientKey: ClientAnswered,
        RevokeClientKey: ClientAnswered,
    },
    topology.WEBHOOK_QUESTIONS: {
        ListWebhooks: WebhooksListed,
        DescribeWebhook: WebhookAnswered,
        ChangeWebhook: WebhookAnswered,
        ListWebhookDeliveries: WebhookDeliveriesListed,
        ListWebhookTries: WebhookTriesListed,
        SendTestEvent: WebhookReplayed,
        ReplayWebhook: WebhookReplayed,
    },
}


def example(kind: type[A], **changes: object) -> A:
    """Return the example of a contract, with other values of some fields."""
    found = _EXAMPLES[kind]
    assert isinstance(found, kind)
    return found.model_copy(update=changes)


@dataclass
class Answers:
    """The answers by the kind of question, and the questions that came."""

    by_question: dict[type[Contract], Contract | Callable[[Any], Contract]]
    asked: list[Contract] = field(default_factory=list)

    async def answer(self, question: Contract) -> Sequence[Contract]:
        """Record a question and answer it."""
        self.asked.append(question)
        found = self.by_question[type(question)]
        answer = found if isinstance(found, Contract) else found(question)
        return [answer.model_copy(update={"id": question.id})]

    def last(self, kind: type[A]) -> A:
        """Return the newest question of a kind."""
        *_, found = (each for each in self.asked if isinstance(each, kind))
        return found

    def set(self, question: type[Contract], kind: type[Contract], **changes: Any) -> None:  # noqa: ANN401 -- of any contract
        """Answer a kind of question by another example from now on."""
        self.by_question[question] = example(kind, **changes)


@asynccontextmanager
async def answering(url: str) -> AsyncIterator[Answers]:
    """Answer until the block is left."""
    known: dict[type[Contract], Contract | Callable[[Any], Contract]] = {
        question: example(kind) for each in ANSWERS.values() for question, kind in each.items()
    }
    answers = Answers(known)
    subscriptions = [
        Subscription(queue, dict.fromkeys(kinds, answers.answer), prefetch=20)
        for queue, kinds in ANSWERS.items()
    ]
    async with Broker.connect(url, "fake") as broker, broker.consuming(*subscriptions):
        yield answers
