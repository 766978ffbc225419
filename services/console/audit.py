"""The audit: every action of an operator, in the log and in the store, before and after it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from services.console.sessions import Session
from services.console.store import ActionStore
from shared.errors import Retry
from shared.runtime import log

MAX_RESULT_CHARS = 500

logger = structlog.get_logger(__name__)


@dataclass
class ActionResult:
    """The result of an action in words, for the audit and for the operator."""

    text: str = "done"
    failed: bool = False  # the operator must look at it
    detail: str = ""  # for the audit alone, after the text


@dataclass(frozen=True, slots=True)
class Audit:
    """Records actions; an address in a subject is masked, so that a person can be forgotten."""

    store: ActionStore
    new_id: Callable[[], str]

    @asynccontextmanager
    async def acting(
        self, session: Session, remote: str, action: str, subject: str
    ) -> AsyncIterator[ActionResult]:
        """Record an action and then its result; the block does it.

        The record comes first, so that nothing is done without one. Raises Retry if it cannot be
        kept, and what the block raises. A result that cannot be kept is in the log alone: the
        action is done, and its operator must see what came of it, such as a new key.
        """
        identifier, masked = self.new_id(), _masked(subject)
        fields = {"operator": session.name, "remote": remote, "action": action, "subject": masked}
        await self.store.begin(identifier, session.name, remote, action, masked)
        result = ActionResult()
        try:
            yield result
        except Exception as error:
            result.text = f"failed: {str(error) or type(error).__name__}"
            raise
        except BaseException:
            result.text = "interrupted"  # such as by an operator who went to another page
            raise
        finally:
            text = result.text + _masked(result.detail)
            logger.info("an operator acted", **fields, result=text)
            try:
                await self.store.finish(identifier, text[:MAX_RESULT_CHARS])
            except Retry as error:
                logger.warning("the result of an action is not in the audit", error=str(error))


def _masked(text: str) -> str:
    """Return a text with each address in it masked; no address has a space."""
    return " ".join(map(log.without_address, text.split(" ")))
