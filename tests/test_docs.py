"""README.md and docs/: links, names of the code, and that no block goes untried."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.stack.settings import SERVICES
from services.gateway.api import problem
from shared import topology
from shared.contracts.clients import Scope
from tests.modules import ROOT
from tests.pages import NOT_RUN, Link, anchors, blocks, is_run, links, listed, pages, read
from tests.shell import is_like

CODE_NAME = re.compile(r"`([\w.]+)`")
START_SECONDS = 30.0  # for Python and its libraries on a busy machine
ALL_LINKS = [link for page in pages() for link in links(page) if "://" not in link.target]
DEAD_QUEUES = {topology.dead_queue(queue.name) for queue in topology.queues()}
MISTAKEN = (
    "AMQP_URL=amqps://localhost/?cafile=ca.pem",
    "OTP_TRISE=3",
    "OTP_LOCALE=xx",
    f"OTP_KEY={'0123456789abcdef' * 4}",
    f"SEALING_KEY={'0123456789abcdef' * 4}",
)


def test_every_page_is_in_the_index() -> None:
    """A reader finds each page of docs/ in docs/README.md."""
    indexed = {link.target for link in links("docs/README.md")}

    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= indexed | {"README.md"}


@pytest.mark.parametrize("link", ALL_LINKS, ids=lambda link: f"{link.page}:{link.target}")
def test_every_link_leads_somewhere(link: Link) -> None:
    """A file is there, and an anchor is the heading of a page."""
    path, _, anchor = link.target.partition("#")
    target = os.path.relpath((ROOT / link.page).parent / path if path else ROOT / link.page, ROOT)

    assert (ROOT / target).exists()
    assert not anchor or anchor in anchors(target)


@pytest.mark.parametrize(
    "link",
    [link for link in ALL_LINKS if link.target.endswith(".py") and CODE_NAME.fullmatch(link.text)],
    ids=lambda link: link.text,
)
def test_every_name_is_in_the_file_that_it_links_to(link: Link) -> None:
    """A class or function that a page names is defined where the page says."""
    path = ROOT / Path(os.path.normpath((ROOT / link.page).parent / link.target))

    assert link.text.strip("`") in set(defined(ast.parse(path.read_text(encoding="utf-8"))))


def test_the_architecture_names_all_exchanges_and_work_queues() -> None:
    """A queue or exchange that is added to the topology is added to docs/architecture.md."""
    named = set(re.findall(r"`([\w.]+)`", read("docs/architecture.md")))
    owned = {queue.name for queue in topology.queues() if queue.owner} - DEAD_QUEUES
    work = {name for name in owned if f"{name}.dead" in DEAD_QUEUES}  # a name for all shards
    exchanges = {exchange.name for exchange in topology.EXCHANGES}

    assert work | {name for name in exchanges if not name.startswith("delay.")} <= named


def test_the_table_of_errors_has_every_code() -> None:
    """A program finds each `code` of a problem document in docs/http-api.md."""
    rows = re.findall(r"^\| [\d, ]+ \| (.*)", section("docs/http-api.md", "Errors"), re.MULTILINE)
    codes = {each.code for each in vars(problem).values() if isinstance(each, problem.ProblemType)}

    assert codes <= set(re.findall(r"`([\w-]+)`", " ".join(rows)))


def test_the_table_of_scopes_has_every_scope() -> None:
    """An administrator finds each scope in docs/clients.md."""
    rows = re.findall(
        r"^\| `(\w+)` \|", section("docs/clients.md", "Register a client"), re.MULTILINE
    )

    assert {*Scope} <= set(rows)


def test_the_operator_finds_every_service() -> None:
    """The order of an upgrade, the sizes, and the users and passwords of `grant` name each."""
    page = "docs/operations.md"
    upgrade, sizes = section(page, "Upgrade and migration"), section(page, "Sizing")
    users, grant = section(page, "Beside an existing RabbitMQ"), read(page)

    for name in SERVICES:
        assert name in upgrade, name
        assert name in re.sub(r"^[^|].*", "", sizes, flags=re.MULTILINE), name
        assert f"`{name}`" in users, name
        assert f"`{name.upper()}_AMQP_PASSWORD`" in grant, name


def test_every_block_is_tried_or_listed() -> None:
    """No command of a page goes untried without a reason, and no reason outlives its block."""
    found = [block for page in pages() for block in blocks(page)]
    entries = {entry for block in found for entry in listed(block)}

    assert [block.name for block in found if not is_run(block) and not listed(block)] == []
    assert entries == NOT_RUN.keys()


def test_mistakes_in_settings_are_reported_as_shown(tmp_path: Path) -> None:
    """docs/settings.md shows what a service prints for wrong settings of all layers."""
    (shown,) = (b.text for b in blocks("docs/settings.md") if b.text.startswith("otp: wrong"))
    (tmp_path / "my.toml").write_text("[otp]\ntris = 3\n")

    run = subprocess.run(
        (sys.executable, "-m", "services.otp", "--config", "my.toml", "--otp-lifetime", "0"),
        env=dict(each.split("=", 1) for each in MISTAKEN),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )

    assert run.stderr == shown
    assert run.returncode == 2


@pytest.mark.parametrize(
    ("output", "shown", "numbers"),
    [
        (
            '{"id":"9b9e0513-2511-40e2-b5ec-aabbc181314a"}',
            '{"id": "0b9e0513-2511-40e2-b5ec-aabbc1813140"}',
            False,
        ),
        ("died 2026-11-29 07:10:15+00:00 here", "died 2026-01-02 03:04:05+00:00\n  here", False),
        ('{"key":"abc","code":550}', '{"key":"a…","code":550}', False),
        ("2,000 sent in 2.3 s (884/s)", "500 sent in 1.0 s (1,362/s)", True),
    ],
)
def test_an_output_is_the_one_that_is_shown(output: str, shown: str, *, numbers: bool) -> None:
    """Ids, times and what `…` leaves out may differ, and numbers where they are of one run."""
    assert is_like(output, shown, numbers=numbers)


@pytest.mark.parametrize(
    ("output", "shown", "numbers"),
    [
        ('{"verified":false}', '{"verified":true}', False),
        ('{"code":550,"more":1}', '{"code":550}', False),
        ('{"code":450}', '{"code":550}', False),
        ("2,000 lost in 2.3 s", "2,000 sent in 2.3 s", True),
    ],
)
def test_another_output_is_not(output: str, shown: str, *, numbers: bool) -> None:
    """All else has to be as the page shows it."""
    assert not is_like(output, shown, numbers=numbers)


def section(page: str, heading: str) -> str:
    """Return the text below a heading, up to the next one."""
    (text,) = re.findall(rf"^##+ {heading}\n(.*?)(?=^##|\Z)", read(page), re.MULTILINE | re.DOTALL)
    return str(text)


def defined(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Yield the names of the classes and functions of a module, methods with their class."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{node.name}"
            yield from defined(node, f"{prefix}{node.name}.")
