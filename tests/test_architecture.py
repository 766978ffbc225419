"""The rules of the tree: which module may import what, what pure code may not do, names, sizes."""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

import ops
import services
import shared
from tests.modules import PRODUCT, ROOT, Module, is_part, read

MAX_LINES = 400  # of a module; most should have half of that
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}

# The one place, or the few, that know a library. Everything else goes through them.
LIBRARIES = {
    "pamqp": ("shared/rabbitmq/*",),
    "aio_pika": ("shared/rabbitmq/*",),
    "aiormq": ("shared/rabbitmq/*",),
    # The benchmark measures the sender beside the bare library.
    "aiosmtplib": (
        *("services/sender/smtp/connect.py", "services/sender/smtp/sasl.py"),
        "benchmarks/*",
    ),
    "aiosmtpd": ("ops/simulator/*", "services/inbound/*"),
    "flufl": ("services/inbound/reports/reading.py",),
    "jinja2": ("shared/template*.py", "*/api/links.py", "services/console/rendering.py"),
    "sqlalchemy": (
        "services/*/store.py",
        "services/otp/sql.py",
        "services/gateway/clients/idempotency_store.py",
        "services/*/store/*",
        "services/sender/stops.py",
        "services/*/tables.py",
        "*/migrations/*",
        *("benchmarks/domains.py", "benchmarks/ledger.py", "benchmarks/schedule.py"),
        "shared/storage/*",
    ),
    "alembic": ("services/*/store.py", "*/migrations/*", "shared/storage/versions.py"),
    "asyncpg": ("shared/storage/postgres.py",),
    "opentelemetry": ("shared/runtime/otel.py",),
    "dns": ("ops/dns/lookup.py", "ops/dkim.py"),
}

# Folders of pure code. The files that are named wait, do I/O or wire the others: their edges.
PURE_FOLDERS: Mapping[str, Sequence[str]] = {
    "shared/contracts": (),
    "services/classifier": ("__main__", "handlers", "service"),
    "services/ledger": ("__main__", "announcing", "handlers", "service"),
    "services/inbound/reports": ("door", "kept", "reader", "receiving", "serving"),
    "services/scheduler": (
        *("__main__", "handlers", "release", "rendering", "run_handlers", "service"),
    ),
    "services/webhooks": ("__main__", "dispatch", "handlers", "requests", "service"),
    "services/otp": ("__main__", "handlers", "service", "sql", "store"),
    "services/otp/mail": (),
    "services/sender": ("__main__", "handlers", "service", "stops", "store"),
    "services/sender/mail": ("builder",),
    "services/gateway": ("__main__", "app", "handlers", "middleware", "service"),
    "services/inbound": ("__main__", "lines", "listening", "service", "smtp"),
    "services/inbound/submission": ("connection", "door", "logins"),
    "shared/replies": (),
    "ops/dns": ("lookup",),
    "services/gateway/feedback": ("sns",),
    "services/gateway/clients": ("idempotency_store", "rate_limiter", "store", "tables"),
}
# Folders of edges. The files that are named are pure all the same.
EDGE_FOLDERS: Mapping[str, Sequence[str]] = {
    "shared": (
        *("client_address", "dead_letter", "delivery", "errors", "identity", "retry"),
        *("return_path", "template", "template_language", "topology"),
    ),
    "shared/storage": ("rate",),
    **{f"services/{each}/store": () for each in ("classifier", "ledger", "scheduler", "webhooks")},
    "services/gateway/api": ("body", "link_texts", "openapi", "problem"),
    "services/sender/smtp": ("circuit_breaker", "relay"),
    "services/console": ("operators", "queues", "relays", "sessions", "traffic"),
    "services/console/pages": (),
}
NOT_IN_PURE = (
    *("asyncio", "os", "socket", "logging", "aiohttp"),
    *("random", "time", "structlog", "subprocess", "threading"),
)
# Clocks and chance come in from outside.
NOT_CALLED_IN_PURE = (
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
    "uuid.uuid1",
    "uuid.uuid4",
)
NOT_IN_HANDLERS = ("pamqp", "aiosmtplib", "sqlalchemy", "aiohttp", "os", "socket")
ENVIRONMENT = ("os.environ", "os.environb", "os.getenv", "os.putenv")

# A test file without a module of its name, and why.
NO_MODULE = {
    "tests/gateway/test_docs.py": "the page of the API in a browser",
    "tests/gateway/api/test_mistakes.py": "the words for the mistakes of all bodies",
    "tests/gateway/test_link_pages.py": "the pages of api/links.py in a browser",
    "tests/console/test_browser.py": "the pages in a browser",
    "tests/ledger/store/test_schedules.py": "times in any order, from records to answers",
    "tests/scheduler/test_later.py": "from a request for later to the sender",
    "tests/ledger/test_suppression_handlers.py": "from a bounce to a mail that is not sent",
    "tests/otp/test_fixed_codes.py": "fixed codes from the settings to the answers",
    "tests/otp/mail/test_template.py": "the placeholders of a translation, without its file",
    "tests/sender/test_stop_handlers.py": "the handlers of what stops mails, on real databases",
    "tests/gateway/api/test_repeats.py": "requests and keys together: messages that are sent again",
    "tests/shared/replies/test_rules.py": "the rules, which are data, and their phrases",
    "tests/gateway/api/test_message_schema.py": "from a body to a command, without HTTP",
    "tests/gateway/test_overload.py": "the gateway and a broker that takes no more",
    "tests/ops/test_roles.py": "it is about ops/roles.sql",
    "tests/shared/test_group_consumer.py": "the consumer in groups: each delivery as if alone",
    "tests/shared/test_shards.py": "queues and rights together: a queue for each shard",
    "tests/shared/storage/test_clock.py": "DatabaseClock, a class of shared/storage/database.py",
    "tests/shared/test_poison.py": "broker and consumer, with messages that would break them",
    "tests/shared/test_guarantee.py": "broker and consumer, on a RabbitMQ that restarts",
    "tests/otp/test_refusals.py": "handlers, store and databases together: what a guesser learns",
    "tests/otp/test_failures.py": "guesses and limits together: failures at all recipients",
    "tests/ops/test_bootstrap.py": "it is about a shell script",
    "tests/sender/test_postfix.py": "the sender and a real server",
    "tests/sender/test_takeover.py": "claims that two senders come to, and their outcomes",
    "tests/sender/test_drain.py": "real senders that are told to end",
    "tests/sender/test_fairness.py": "the sender and the queues of a class together",
    "tests/sender/smtp/test_spans.py": "the spans of a pool's mails, as a collector gets them",
    "tests/sender/smtp/test_late_greeting.py": "a pool and a relay that greets late",
    "tests/sender/test_lease.py": "real senders that are stopped and go on",
    "tests/sender/test_whole.py": "the sender's parts together, from the command to the events",
    "tests/sender/test_faults.py": "the sender's pool, connection and dialogue together",
    "tests/ops/simulator/test_whole.py": "the parts of the simulator together",
    "tests/ops/simulator/test_page.py": "the page in a browser",
}
# The processes together, the tests of a module once more, or what concerns the whole tree.
NO_MIRROR = ("tests/journeys/*", "tests/containers/*", "tests/test_*.py")

Rule = Callable[[Module], Iterable[str]]


def layers(module: Module) -> Iterator[str]:
    """Import `shared` and itself into a service, no service into `shared`, no tests into either."""
    here = module.package
    allowed = {
        "shared": ("shared",),
        "services": ("shared", ".".join(here[:2])),
        "ops": ("shared", "services", "ops"),
        "benchmarks": PRODUCT,
    }[here[0]]
    for line, name in module.imports:
        ours = name.partition(".")[0] in {*PRODUCT, "tests"}
        if ours and not any(is_part(name, each) for each in allowed):
            yield f"{line}: imports {name}; only {' and '.join(allowed)} may be imported here"


def libraries(module: Module) -> Iterator[str]:
    """Import a library in one place, so that it can be replaced there."""
    for line, name in module.imports:
        for library, homes in LIBRARIES.items():
            if is_part(name, library) and not any(fnmatch(module.path, home) for home in homes):
                yield f"{line}: imports {name}; only {' and '.join(homes)} may"


def is_pure(module: Module) -> bool:
    """Whether a module decides only: it neither waits, nor does I/O, nor wires others."""
    folder = "/".join(module.package)
    if folder in PURE_FOLDERS:
        return module.stem not in PURE_FOLDERS[folder]
    return module.stem in EDGE_FOLDERS.get(folder, ())


def purity(module: Module) -> Iterator[str]:
    """Pure code decides: no I/O, no waiting, no clock, no random numbers."""
    if not is_pure(module):
        return
    for line, name in module.imports:
        if any(is_part(name, each) for each in NOT_IN_PURE):
            yield f"{line}: imports {name}; this module decides, an edge or the wiring does"
    for line, name in module.references:
        if name in NOT_CALLED_IN_PURE:
            yield f"{line}: uses {name}; time and chance come in from outside"


def handlers(module: Module) -> Iterator[str]:
    """Show a handler contracts and small protocols, never a driver."""
    if module.package[0] != "services" or module.stem != "handlers":
        return
    for line, name in module.imports:
        if any(is_part(name, each) for each in NOT_IN_HANDLERS):
            yield f"{line}: imports {name}; a handler gets what it needs by its constructor"


def environment(module: Module) -> Iterator[str]:
    """Read settings in `__main__` alone, whole and checked."""
    if module.package[0] == "ops" or module.stem == "__main__":
        return
    for line, name in [*module.imports, *module.references]:
        if any(is_part(name, each) for each in ENVIRONMENT):
            yield f"{line}: reads {name}; only __main__ and ops do"


def names(module: Module) -> Iterator[str]:
    """Name a file after the thing that is in it."""
    for name in (*module.package, module.stem):
        if name in FORBIDDEN_NAMES:
            yield f"1: {name!r} says nothing; the code belongs to its caller or to a noun"


def size(module: Module) -> Iterator[str]:
    """Keep a module short enough to be read in one sitting."""
    if module.lines > MAX_LINES:
        yield f"{MAX_LINES}: has {module.lines} lines, {MAX_LINES} are the limit"


def docstrings(module: Module) -> Iterator[str]:
    """Describe a package in its docstring."""
    if module.stem == "__init__" and not ast.get_docstring(module.tree):
        yield "1: this package has no docstring"


EVERYWHERE: tuple[Rule, ...] = (names, size, docstrings)
IN_PRODUCT: tuple[Rule, ...] = (layers, libraries, purity, handlers, environment)


@pytest.fixture(scope="module")
def product() -> list[Module]:
    """Read the modules of the product."""
    return read(*PRODUCT)


@pytest.fixture(scope="module")
def tests() -> list[Module]:
    """Read the modules of the tests."""
    return read("tests")


def broken(rules: Iterable[Rule], modules: Iterable[Module]) -> str:
    """Return a line for every place where a rule is broken."""
    return "\n".join(
        f"{module.path}:{problem}"
        for module in modules
        for rule in rules
        for problem in rule(module)
    )


@pytest.mark.parametrize("rule", IN_PRODUCT, ids=lambda rule: rule.__name__)
def test_the_product_keeps_the_rules(rule: Rule, product: list[Module]) -> None:
    """No import, call or look at the environment where it does not belong."""
    problems = broken([rule], product)

    assert not problems, f"{rule.__doc__}\n{problems}"


@pytest.mark.parametrize("rule", EVERYWHERE, ids=lambda rule: rule.__name__)
def test_the_whole_tree_keeps_the_rules(
    rule: Rule, product: list[Module], tests: list[Module]
) -> None:
    """Rules of names, sizes and docstrings hold for tests too."""
    problems = broken([rule], [*product, *tests])

    assert not problems, f"{rule.__doc__}\n{problems}"


def test_every_folder_of_modules_is_a_package(product: list[Module], tests: list[Module]) -> None:
    """A folder without `__init__.py` is found by some tools and missed by others."""
    folders = {Path(module.path).parent for module in (*product, *tests)}
    missing = [
        str(folder) for folder in sorted(folders) if not (ROOT / folder / "__init__.py").exists()
    ]

    assert not missing, f"without __init__.py: {', '.join(missing)}"


def test_the_tests_mirror_the_tree(product: list[Module], tests: list[Module]) -> None:
    """The tests of a module have its name, and the other way round."""
    modules = {module.path for module in product}
    astray = [module.path for module in tests if not has_module(module.path, modules)]

    assert not astray, "\n".join(["no module of that name, and not in NO_MODULE:", *astray])


def test_no_exception_is_out_of_date(product: list[Module], tests: list[Module]) -> None:
    """An exception that is not needed any more hides the next mistake."""
    modules, paths = {module.path for module in product}, {module.path for module in tests}

    assert NO_MODULE.keys() <= paths
    assert not [path for path in NO_MODULE if mirrored(path) in modules]
    folders = {**PURE_FOLDERS, **EDGE_FOLDERS}.items()
    assert {f"{folder}/{stem}.py" for folder, stems in folders for stem in stems} <= modules


def test_every_folder_of_a_service_is_pure_or_an_edge(product: list[Module]) -> None:
    """A new folder is either pure, with its edges, or holds edges, with its pure files."""
    folders = {
        "/".join(module.package)
        for module in product
        if module.package[0] == "services" and module.package[-1] != "migrations"
    }

    assert folders - PURE_FOLDERS.keys() - EDGE_FOLDERS.keys() == {"services"}


def test_the_package_under_test_is_this_tree() -> None:
    """No `shared` of an installed package hides the one of this tree."""
    for package in (shared, services, ops):
        assert Path(package.__file__ or "").parent.parent == ROOT


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (layers, "shared/x.py", "from services.otp import codes"),
        (layers, "shared/x.py", "import ops.ports"),
        (layers, "shared/x.py", "def f():\n    from tests import tap"),
        (layers, "services/otp/x.py", "from services.sender import compose"),
        (layers, "services/otp/x.py", "import services.sender.mail.compose as mine"),
        (layers, "services/otp/x.py", "from services import sender"),
        (layers, "services/otp/x.py", "from ..sender import compose"),
        (layers, "services/otp/x.py", "from ops import ports"),
        (layers, "ops/x.py", "from tests import tap"),
        (libraries, "shared/consumer.py", "from pamqp import commands"),
        (libraries, "shared/broker.py", "import aio_pika"),
        (libraries, "services/sender/handlers.py", "import aiosmtplib"),
        (libraries, "services/otp/handlers.py", "from sqlalchemy.ext.asyncio import AsyncEngine"),
        (purity, "services/otp/codes.py", "import os"),
        (purity, "services/otp/codes.py", "import os.path"),
        (purity, "services/otp/codes.py", "from time import monotonic"),
        (purity, "services/otp/codes.py", "from datetime import datetime as d\nd.now()"),
        (purity, "services/otp/codes.py", "import datetime\ndatetime.datetime.now()"),
        (purity, "services/otp/codes.py", "from uuid import uuid4\nmake = uuid4"),
        (purity, "shared/retry.py", "import random"),
        (handlers, "services/otp/handlers.py", "import aiohttp"),
        (environment, "services/otp/service.py", "import os\nos.environ['X']"),
        (environment, "shared/x.py", "from os import getenv as g\ng('X')"),
        (names, "services/otp/utils.py", ""),
        (names, "tests/common/x.py", ""),
        (size, "shared/x.py", "\n" * 401),
        (docstrings, "shared/x/__init__.py", ""),
    ],
)
def test_the_rules_bite(rule: Rule, path: str, text: str) -> None:
    """A rule that finds nothing in what it forbids protects nothing."""
    assert list(rule(Module(path, text)))


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (layers, "services/otp/x.py", "from shared import retry\nfrom services.otp import codes"),
        (layers, "services/otp/x.py", "from . import codes"),
        (libraries, "shared/rabbitmq/frames.py", "from pamqp import decode"),
        (libraries, "services/otp/migrations/0001_x.py", "import sqlalchemy as sa"),
        (
            purity,
            "services/otp/codes.py",
            "from datetime import datetime\ndatetime.fromtimestamp(0)",
        ),
        (purity, "services/otp/codes.py", "def judge(clock): return clock.now()"),
        (purity, "services/otp/store.py", "import asyncio"),
        (purity, "shared/runtime/lifecycle.py", "import asyncio"),
        (environment, "services/otp/__main__.py", "import os\nos.environ"),
        (environment, "ops/x.py", "import os\nos.environ"),
    ],
)
def test_the_rules_bite_no_more_than_that(rule: Rule, path: str, text: str) -> None:
    """A rule finds no fault with what it allows."""
    assert not list(rule(Module(path, text)))


def has_module(path: str, modules: set[str]) -> bool:
    """Whether a file of the tests is one with a module, or one that needs none."""
    if not PurePosixPath(path).name.startswith("test_") or path in NO_MODULE:
        return True
    module = mirrored(path)
    package = f"{module.removesuffix('.py')}/__init__.py"
    return not modules.isdisjoint({module, package}) or any(
        fnmatch(path, each) for each in NO_MIRROR
    )


def mirrored(path: str) -> str:
    """Return the path of the module that a test file is about."""
    folder, name = PurePosixPath(path).parent, PurePosixPath(path).name.removeprefix("test_")
    inside = PurePosixPath(*folder.parts[1:])
    where = (
        inside
        if inside.parts[:1] in {("shared",), ("ops",), ("benchmarks",)}
        else "services" / inside
    )
    return str(where / ("__main__.py" if name == "main.py" else name))
