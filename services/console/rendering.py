"""Pages from templates: their text, their formats of times and numbers, and the static files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

FOLDER = Path(__file__).parent
# Files that any browser may have without a login: they hold nothing of the pipeline.
STATIC_FILES: Mapping[str, str] = {
    "/static/console.css": "static/console.css",
    "/static/console.js": "static/console.js",
    "/static/htmx.js": "static/vendor/htmx.min.js",
    "/static/uplot.js": "static/vendor/uPlot.iife.min.js",
    "/static/uplot.css": "static/vendor/uPlot.min.css",
}
# The pages by their path, in the order of the navigation.
NAVIGATION: Mapping[str, str] = {
    "/": "Overview",
    "/messages": "Messages",
    "/relays": "Relays",
    "/dead-letters": "Dead letters",
    "/suppressions": "Suppression",
    "/domains": "Domains",
    "/webhooks": "Webhooks",
    "/content": "Content",
    "/subscriptions": "Subscriptions",
    "/clients": "Clients",
    "/audit": "Audit",
}
MS_PER_SECOND = 1000
MAX_EXACT_SECONDS = 10  # beyond which nobody asks for parts of a second
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def duration(seconds: float) -> str:
    """Return a time span in words, in its two largest units: `2 h 5 min`, `40 s`."""
    left = max(0, round(seconds))
    for index, (size, unit) in enumerate(_UNITS):
        if left >= size:
            smaller, name = _UNITS[index + 1] if index + 1 < len(_UNITS) else (1, "s")
            rest = left % size // smaller
            return f"{left // size} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{left} s"


def latency(seconds: float) -> str:
    """Return a short time span: `340 ms`, `2.5 s`, and in larger units from ten seconds on."""
    milliseconds = max(0, round(seconds * MS_PER_SECOND))
    if milliseconds < MS_PER_SECOND:
        return f"{milliseconds} ms"
    return f"{seconds:.3g} s" if seconds < MAX_EXACT_SECONDS else duration(seconds)


def number(value: float) -> str:
    """Return a number for a person: a whole one with spaces between thousands, or two digits."""
    if value == int(value):
        return f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{value:.2f}"


def counted(count: int, one: str, many: str) -> str:
    """Return a number with its words: `1 event is queued`, `2 events are queued`."""
    return f"{number(count)} {one if count == 1 else many}"


def part_of_url(text: object) -> str:
    """Return a text as one part of a path or a query; Jinja's own filter keeps a slash."""
    return quote(str(text), safe="")


def moment(at: datetime | None) -> Markup:
    """Return a time as an element that programs can read, in UTC to the second."""
    if at is None:
        return Markup('<span class="quiet">unknown</span>')
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.isoformat(), utc.strftime("%Y-%m-%d %H:%M:%S")
    )


@dataclass(frozen=True, slots=True)
class PageRenderer:
    """Renders the templates of a folder; `now` returns the time, with its zone."""

    now: Callable[[], datetime]
    environment: jinja2.Environment

    @classmethod
    def of(cls, now: Callable[[], datetime]) -> "PageRenderer":
        """Return the renderer of the console's own templates."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        environment.filters |= {"moment": moment, "number": number, "duration": duration}
        environment.filters |= {"latency": latency, "urlencode": part_of_url}
        environment.globals["navigation"] = NAVIGATION
        return cls(now, environment)

    def render(self, name: str, context: Mapping[str, Any]) -> str:
        """Return the page of a template."""
        now = self.now()

        def ago(at: datetime | None) -> str:
            return "unknown" if at is None else duration((now - at).total_seconds())

        return self.environment.get_template(name).render(now=now, ago=ago, **context)
