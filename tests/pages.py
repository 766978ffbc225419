"""The pages that people read: README.md, CHANGELOG.md, CONTRIBUTING.md and docs/*.md."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.modules import ROOT

# A fenced block, and the block right after it if that one shows an output.
_BLOCK = re.compile(
    r"^```(\w*)\n(.*?)^```$(?:\s*^```(text|json)\n(.*?)^```$)?", re.DOTALL | re.MULTILINE
)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_LINK = re.compile(r'\[([^\]]+)\]\(([^)\s]+)\)|()src="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page, and the output that the page shows for it."""

    page: str
    language: str
    text: str
    output_language: str | None = None
    output: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether the output is for people: its numbers are those of one run."""
        return self.output_language == "text"

    @property
    def name(self) -> tuple[str, str]:
        """The page and the first line of the block."""
        return self.page, self.text.partition("\n")[0]


@dataclass(frozen=True, slots=True)
class Link:
    """A link or an image of a page; `target` is relative to the folder of the page."""

    page: str
    text: str
    target: str


def pages() -> list[str]:
    """Return the paths of all pages, relative to the root."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def read(page: str) -> str:
    """Return the text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page; an output is part of the block before it."""
    return [Block(page, *match.groups()) for match in _BLOCK.finditer(read(page))]


def links(page: str) -> Iterator[Link]:
    """Yield the links and images of a page that stand outside of its blocks."""
    for match in _LINK.finditer(_BLOCK.sub("", read(page))):
        yield Link(page, match[1] or "", match[2] or match[4])


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = _HEADING.findall(_BLOCK.sub("", read(page)))
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


# The blocks that no test runs as they stand, by page and beginning, and why.
NOT_RUN = {
    ("README.md", "git clone"): "it needs the address of the repository",
    ("README.md", "make up"): "the journeys start the same program and compare what it prints",
    ("docs/architecture.md", "sequenceDiagram"): "a diagram",
    ("docs/chaos.md", ".venv/bin/python -m ops.chaos"): "tests/journeys/test_chaos.py runs faults",
    ("docs/codes.md", "[otp.test_codes"): "tests/otp/test_config.py reads it",
    ("docs/containers.md", "docker compose up --build\n"): "all tests in tests/containers start so",
    ("docs/containers.md", "GATEWAY_PORT=8080-8083"): "test_the_gateway_may_be_scaled does, to 2",
    ("docs/containers.md", "docker compose down"): "test_a_second_up_finds_its_data does",
    ("docs/containers.md", "docker compose exec -T rabbitmq rabbitmqctl"): "of the old version",
    ("docs/containers.md", "docker compose up --build --detach"): "after the old version",
    ("docs/dns.md", ".venv/bin/ops dkim check"): "tests/ops/test_dkim.py does, on a DNS of its own",
    ("docs/http-api.md", "RateLimit-Policy"): "tests/gateway/clients/test_rate_limiter.py does",
    ("docs/examples.md", '"""shop.py'): "tests/journeys/test_examples.py does",
    ("docs/examples.md", "// shop.mjs"): "the same",
    ("docs/operations.md", "docker compose --profile"): "test_prometheus_knows_every_metric does",
    ("docs/operations.md", "docker compose -f"): "tests/containers/test_cluster.py starts so",
    ("docs/operations.md", "rabbitmqctl"): "after the loss of a node's data",
    ("docs/operations.md", "amqps://sender"): "tests/test_tls.py gets such an error",
    ("docs/operations.md", "rabbitmqctl add_vhost"): "tests/ops/test_topology.py does, by the API",
    ("docs/operations.md", "umask 077"): "tests/journeys/test_backup.py does",
    ("docs/operations.md", "pg_dump"): "the same",
    ("docs/operations.md", "mv .run"): "the same",
    ("docs/operations.md", "createdb"): "the same",
    ("docs/operations.md", "mkdir -m 700"): "the same",
    ("docs/publish.md", "docker compose run"): "test_a_program_publishes_as_the_page_says does",
    ("docs/publish.md", '"""send.py'): "tests/test_publish.py does",
    ("docs/publish.md", '"""ask.py'): "tests/test_publish.py does",
    ("docs/publish.md", "// send.js"): "there is no amqplib here",
    ("docs/publish.md", "// send.go"): "there is no Go here",
    ("docs/settings.md", "export AMQP_URL"): "it serves on; a test of its own ends it",
    ("docs/settings.md", "otp: wrong settings"): "tests/test_docs.py makes these mistakes",
    ("docs/smtp.md", "EMAIL_HOST"): "tests/journeys/test_submission.py hands over such a mail",
    ("docs/smtp.md", "config.action_mailer"): "there is no Rails here",
    ("docs/smtp.md", "add_action"): "there is no WordPress here",
    ("docs/smtp.md", "account default"): "there is no msmtp here",
    ("docs/smtp.md", "relayhost"): "tests/journeys/test_submission.py runs such a Postfix",
    ("docs/smtp.md", "swaks"): "the same runs swaks",
    ("docs/templates.md", "direction"): "tests/otp/mail reads it as a language",
    ("docs/testing.md", "make check"): "the tests themselves",
    ("docs/webhooks.md", '"""receiver.py'): "tests/journeys/test_webhooks.py does",
    ("docs/tracing.md", "OTEL_EXPORTER"): "tests/journeys/test_traces.py runs such a stack",
    ("docs/tracing.md", "POST /v1/messages"): "the same sees such spans",
    ("docs/upstream.md", ""): "all blocks of it show faults of libraries",
}


def is_run(block: Block) -> bool:
    """Return whether a test runs the commands of a block as they stand."""
    return block.language == "sh" and not listed(block)


def listed(block: Block) -> list[tuple[str, str]]:
    """Return the entries of NOT_RUN that are about a block."""
    return [(p, start) for p, start in NOT_RUN if p == block.page and block.text.startswith(start)]
