"""Every message that crosses a queue: frozen models with routing keys, encoded and decoded.

The wire form is JSON; unknown fields are ignored on read, so that fields can be added freely. A
change that an old reader would misunderstand is a new message with a new key.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from pydantic import ValidationError

from shared.contracts.clients import (
    AddClientKey,
    AuthenticateClient,
    AuthenticatedClient,
    ChangeClient,
    ClientAnswered,
    ClientAuthenticated,
    ClientKeyRecord,
    ClientRecord,
    ClientRemoved,
    ClientResult,
    ClientRights,
    ClientsListed,
    DescribeClient,
    ListClients,
    RegisterClient,
    RevokeClient,
    RevokeClientKey,
)
from shared.contracts.codes import (
    CancelCode,
    CodeCancelled,
    CodeIssued,
    CodeRefused,
    CodeUnchecked,
    CodeVerified,
    CodeWithheld,
    IssueCode,
    VerifyCode,
    Withholding,
)
from shared.contracts.content import (
    ContentRendered,
    ContentResult,
    ContentRun,
    ContentSummary,
    ContentType,
    ContentTypeAnswered,
    ContentTypePaused,
    ContentTypesListed,
    DeleteContentType,
    DescribeContentType,
    EmailsRepeated,
    ListContentTypes,
    ListRuns,
    RenderContent,
    RepeatEmails,
    ResumeContentType,
    RunsListed,
    SaveContentType,
)
from shared.contracts.domains import (
    CountDomains,
    DescribeDomain,
    DomainClassified,
    DomainDescribed,
    DomainEvidence,
    DomainsCounted,
    DomainsListed,
    FeedbackReported,
    Kind,
    ListDomains,
    Sighting,
    Verdict,
)
from shared.contracts.ledger import (
    CancelEmail,
    CountEmails,
    DescribeEmail,
    EmailCancelling,
    EmailCounts,
    EmailDescribed,
    EmailFound,
    EmailRecord,
    EmailsCounted,
    EmailsListed,
    EmailStatus,
    FindEmail,
    HistoryEntry,
    ListEmails,
    RecipientStatus,
)
from shared.contracts.mail import AcceptedEmail, Category, SendEmail
from shared.contracts.message import (
    MAX_SMALL_BYTES,
    MAX_VALUES,
    Answer,
    Command,
    Contract,
    Event,
    OperatorQuestion,
    Question,
    check_size,
)
from shared.contracts.outcomes import (
    EmailBounced,
    EmailCancelled,
    EmailDeferred,
    EmailDelivered,
    EmailExpired,
    EmailFailed,
    EmailSuppressed,
    EmailUncertain,
    NotAccepted,
    Outcome,
    Reply,
    ReplyClass,
    Stage,
)
from shared.contracts.relays import (
    CircuitState,
    DescribeRelays,
    Latency,
    LatencyStep,
    RelaysDescribed,
    RelayState,
)
from shared.contracts.reports import (
    MailReceived,
    MailReference,
    ReceivedHeader,
    Report,
    ReportBounced,
    ReportComplained,
    ReportDelayed,
    ReportDelivered,
    ReportKind,
    ReportSource,
)
from shared.contracts.schedule import (
    ConfirmSubscription,
    DescribeSubscription,
    EmailRescheduled,
    EndSubscription,
    ListSubscriptions,
    Missed,
    NewsletterSubscription,
    RescheduleEmail,
    SchedulingAnswered,
    SchedulingResult,
    Subscribe,
    SubscriptionAnswered,
    SubscriptionResult,
    SubscriptionsListed,
    SubscriptionStatus,
    UnscheduleEmail,
)
from shared.contracts.suppressions import (
    AddSuppressions,
    AnnounceSuppressions,
    DescribeSuppression,
    ForgetAddress,
    ListSuppressions,
    NewSuppression,
    RemoveSuppressions,
    Suppression,
    SuppressionAdded,
    SuppressionOrigin,
    SuppressionRemoved,
    SuppressionsChanged,
    SuppressionsListed,
)
from shared.contracts.webhooks import (
    ChangeWebhook,
    CreateWebhook,
    DeleteWebhook,
    DeliveryStatus,
    DescribeWebhook,
    DisabledFor,
    ListWebhookDeliveries,
    ListWebhooks,
    ListWebhookTries,
    ReplayWebhook,
    RotateWebhookSecret,
    SendTestEvent,
    Webhook,
    WebhookAnswered,
    WebhookDeliveriesListed,
    WebhookDelivery,
    WebhookDisabled,
    WebhookFilter,
    WebhookReplayed,
    WebhookResult,
    WebhooksListed,
    WebhookTriesListed,
    WebhookTry,
)
from shared.contracts.wording import detail, place
from shared.errors import Undecodable

# All that are imported above. The ledger's own form of a command is no other contract.
CONTRACTS: tuple[type[Contract], ...] = tuple(
    each
    for each in tuple(vars().values())
    if isinstance(each, type) and issubclass(each, Contract) and "keys" in vars(each)
    if each is not AcceptedEmail
)
# The events that endpoints of clients may want, by the first word of their keys.
WEBHOOK_NOUNS = ("email", "code", "domain", "suppression", "report", "mail", "content", "webhook")
WEBHOOK_CONTRACTS: tuple[type[Event], ...] = tuple(
    each
    for each in CONTRACTS
    if issubclass(each, Event) and each.keys[0].partition(".")[0] in WEBHOOK_NOUNS
)
MAX_MISTAKES = 10  # in one reason
_BY_KEY: Mapping[str, type[Contract]] = {key: each for each in CONTRACTS for key in each.keys}


def encode(message: Contract) -> bytes:
    """Return the wire form: JSON without absent fields."""
    return message.model_dump_json(by_alias=True, exclude_none=True).encode()


def decode(key: str, body: bytes, kinds: tuple[type[Contract], ...] = ()) -> Contract:
    """Return the message in a body, of the contract that `key`, an AMQP type, names.

    One of `kinds` with this key is preferred, which may read fewer fields. A body over the
    contract's `max_bytes`, or of too many values, is not parsed.
    Raises Undecodable, whose text never repeats the input: a body may hold secrets.
    """
    contract = _by_key(kinds).get(key)
    if contract is None:
        raise Undecodable(f"no contract has the type {key[:100]!r}")
    try:
        if len(body) > MAX_VALUES:  # a shorter one is within every limit
            check_size(body, contract.max_bytes)
        message = contract.read(body)
    except ValidationError as error:
        raise Undecodable(mistakes(error)) from None
    except ValueError as error:
        raise Undecodable(f"body: {error}") from None
    if len(contract.keys) > 1 and message.routing_key != key:
        raise Undecodable(f"type {key} holds a message of type {message.routing_key}")
    return message


@lru_cache
def _by_key(kinds: tuple[type[Contract], ...]) -> Mapping[str, type[Contract]]:
    return {**_BY_KEY, **{key: kind for kind in kinds for key in kind.keys}}


def max_bytes(key: str) -> int:
    """Return the largest size, in bytes, of a body of the type `key`."""
    contract = _BY_KEY.get(key)
    return contract.max_bytes if contract else MAX_SMALL_BYTES


def mistakes(error: ValidationError) -> str:
    """Return the mistakes in plain words, field by field, without the values."""
    found = error.errors(include_input=False, include_url=False)[:MAX_MISTAKES]
    return "; ".join(f"{place(each['loc'])}: {detail(each)}" for each in found)
