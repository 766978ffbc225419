"""Dead letters: how many there are and why, one of them, and what to do about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web

from services.console.context import PageContext, read_form
from services.console.letters import DeadLetters, LettersMoved, Selects, by_cause, by_id
from services.console.sampling import Sampler
from shared import dead_letter


@dataclass(frozen=True, slots=True)
class DeadLetterPages:
    """Shows, replays and drops dead letters."""

    context: PageContext
    sampler: Sampler
    letters: DeadLetters

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/dead-letters", self.list),
            web.get("/dead-letters/{queue}", self.show_queue),
            web.get("/dead-letters/{queue}/{id}", self.show),
            web.post("/dead-letters/{queue}", self.act),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Return the number in each queue."""
        counts = {each: self.sampler.queues.waiting(each) for each in dead_letter.dead_queues()}
        missing = self.sampler.missing_queues
        return self.context.page(request, "dead_letters.html", counts=counts, missing=missing)

    async def show_queue(self, request: web.Request) -> web.Response:
        """Return the letters of a queue by cause and reason."""
        queue = _queue(request)
        found = await self.letters.read(queue)
        return self.context.page(
            request,
            "dead_letter_queue.html",
            queue=queue,
            found=found,
            dropped_mail=dead_letter.DROPPED_MAIL,
        )

    async def show(self, request: web.Request) -> web.Response:
        """Return one letter, without texts and codes."""
        queue = _queue(request)
        letter = await self.letters.find(queue, request.match_info["id"])
        if letter is None:
            raise web.HTTPNotFound(text="There is no such dead letter here any more.")
        return self.context.page(
            request,
            "dead_letter.html",
            queue=queue,
            letter=letter,
            can_return=dead_letter.can_return(letter),
            warning=dead_letter.DROPPED_MAIL if dead_letter.is_mail(letter) else "",
            body=dead_letter.body_text(letter.delivery.body, withhold=True),
        )

    async def act(self, request: web.Request) -> web.Response:
        """Replay or drop a letter, or all letters of one cause and reason."""
        queue, form = _queue(request), await read_form(request)
        act, subject, selects = form.get("act"), *_selection(queue, form)
        if act not in {"replay", "drop"}:
            raise web.HTTPBadRequest(text="A dead letter can be replayed or dropped.")
        async with self.context.acting(request, f"{act} dead letters", subject) as result:
            work = self.letters.replay if act == "replay" else self.letters.drop
            moved = await work(queue, selects)
            result.text, result.failed = _summary(act, moved), not moved.moved
            result.detail = "" if form.get("id") else _named(moved)
        raise self.context.back(request, f"/dead-letters/{quote(queue)}", result)


def _queue(request: web.Request) -> str:
    queue = request.match_info["queue"]
    if queue not in dead_letter.dead_queues():
        raise web.HTTPNotFound(text="There is no such queue of dead letters.")
    return queue


def _selection(queue: str, form: Mapping[str, str]) -> tuple[str, Selects]:
    """Return the subject of an action in words, and the letters that it is about."""
    if identifier := form.get("id"):
        return f"{queue}: {identifier}", by_id(identifier)
    cause, reason = form.get("cause", ""), form.get("reason", "")
    story = f"{cause}: {reason}" if reason else cause
    return f"{queue}: all of {story}", by_cause(cause, reason)


def _summary(act: str, moved: LettersMoved) -> str:
    if not moved.moved and not moved.kept:
        return "there was none any more: another operator may have been quicker"
    if act == "drop":
        return f"{moved.moved} dropped"
    kept = f"; {moved.kept} kept, since their queue is unknown" if moved.kept else ""
    return f"{moved.moved} sent back, to be handled in some five seconds{kept}"


def _named(moved: LettersMoved) -> str:
    """Return the ids of letters that were moved, for the audit."""
    named = ", ".join(each or "without an id" for each in moved.ids)
    more = moved.moved - len(moved.ids)
    return f": {named}" * bool(named) + (f" and {more} more" if more else "")
