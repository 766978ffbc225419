"""A consumer without a broker: what comes, what is published, and handlers that fail."""

from collections.abc import Awaitable, Callable, Sequence

from shared import topology
from shared.consumer import Consumer, Subscription
from shared.contracts import CodeRefused, Contract, SendEmail, VerifyCode, encode
from shared.delivery import Delivery, Publishing
from shared.errors import Reject, Unavailable
from shared.identity import Identity
from shared.retry import Reschedule
from tests.shared.messages import KIND, MOMENT, QUEUE, fact, mail
from tests.shared.tag import RecordingTag
from tests.waiting import until

GATEWAY = Identity("gateway", names_clients=True)

Handler = Callable[[SendEmail], Awaitable[Sequence[Contract | Reschedule]]]


def arrived(id_: str, attempt: int = 1) -> Delivery:
    """Return a command as it came from its queue."""
    return Delivery(QUEUE, KIND, encode(mail(id_)), id_, id_, None, attempt, {})


def asked(id_: str, body: bytes | None = None, kind: str = "code.verify") -> Delivery:
    """Return a question as it came from its queue."""
    question = VerifyCode(id=id_, email="ada@example.com", code="123456")
    body = encode(question) if body is None else body
    return Delivery(topology.OTP_QUESTIONS, kind, body, id_, id_, "asker", 1, {}, GATEWAY)


async def facts(command: SendEmail) -> Sequence[Contract]:
    """Return as many events as the id of a command has letters."""
    return [fact(letter) for letter in command.id]


def raising(error: BaseException) -> Handler:
    """Return a handler that fails."""

    async def handle(_: SendEmail) -> Sequence[Contract]:
        raise error

    return handle


async def answer(question: VerifyCode) -> Sequence[Contract]:
    """Answer a question by its id, unless that is "bad"."""
    if question.id == "bad":
        raise Reject("this one never")
    return [CodeRefused(id=f"to-{question.id}", at=MOMENT, email="x")]


class Publisher:
    """Records what is published; it fails as often as an id is among `failures`."""

    def __init__(self, *failures: str) -> None:
        self._failures = list(failures)
        self.tried: list[Publishing] = []

    async def __call__(self, message: Publishing) -> None:
        """Confirm a message, or raise Unavailable."""
        self.tried.append(message)
        if message.message_id in self._failures:
            self._failures.remove(message.message_id)
            raise Unavailable("away")

    @property
    def ids(self) -> list[str]:
        """The ids of all tries, in order."""
        return [each.message_id for each in self.tried]

    @property
    def answers(self) -> list[str]:
        """The ids of the answers to the asker, in order."""
        return [each.message_id for each in self.tried if each.routing_key == "asker"]


def commands(handler: Handler, publish: Publisher) -> Consumer:
    """Return a consumer of commands."""
    return Consumer(Subscription(QUEUE, {SendEmail: handler}, 8), publish)


def questions(publish: Publisher) -> Consumer:
    """Return a consumer of questions."""
    subscription = Subscription(topology.OTP_QUESTIONS, {VerifyCode: answer}, 8, retries=False)
    return Consumer(subscription, publish)


async def settled(consumer: Consumer, message: Delivery) -> RecordingTag:
    """Pass a delivery to a consumer and return its tag once it is settled."""
    tag = RecordingTag()
    consumer.take(message, tag)
    await is_settled(tag)
    return tag


async def is_settled(tag: RecordingTag) -> None:
    """Wait until a delivery is settled."""

    async def found() -> bool:
        return bool(tag.settled)

    await until(found)


def recovering(outage: Sequence[BaseException]) -> Handler:
    """Return a handler that fails by each error of an outage, then works."""
    errors = iter(outage)

    async def handle(command: SendEmail) -> Sequence[Contract]:
        for error in errors:
            raise error
        return await facts(command)

    return handle
