"""How fast reports about mails are taken, read, found in the ledger and published.

Each is a DSN (RFC 3464) with the mail that it returns, and comes by SMTP. Its return path is signed
by us; the ledger knows the mail. The 250 follows the broker's confirm of `report.bounced`.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime

from benchmarks import mail, report
from benchmarks.bench import Bench, BenchError, BenchPlan, load_average
from benchmarks.report import Series
from benchmarks.services import MeasuredService, Vhost, total
from benchmarks.submit import HandedOver, SmtpClient
from ops import ports
from shared.return_path import ReturnPaths
from shared.topology import EVIDENCE, LEDGER_MAIL

WANTED_RATE = 500  # reports a second
REPORTS_PER_CONNECTION = 50
_DOMAIN = "bounce.bench.example"
_RECORD_SECONDS = 60.0
_LOOK_SECONDS = 0.2
_DSN = """\
From: Mail Delivery System <MAILER-DAEMON@mx.bench.example>\r
To: {path}\r
Subject: Undelivered Mail Returned to Sender\r
Message-ID: <{number}@mx.bench.example>\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary="part"\r
\r
--part\r
Content-Type: text/plain; charset=us-ascii\r
\r
A mail could not be delivered to {recipient}.\r
--part\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.bench.example\r
\r
Final-Recipient: rfc822; {recipient}\r
Action: failed\r
Status: 5.1.1\r
Diagnostic-Code: smtp; 550 5.1.1 <{recipient}>: user unknown\r
--part\r
Content-Type: message/rfc822\r
\r
"""
_END = b"--part--\r\n"

ReturnedReport = tuple[str, bytes]  # its return path and content


def reports_of(ids: Sequence[str], key: str) -> Sequence[ReturnedReport]:
    """Return a report about each mail of `Vhost.fill`."""
    paths, today = ReturnPaths.from_text(_DOMAIN, key), datetime.now(UTC).date()
    returned = mail.ready_made()

    def made() -> Iterator[ReturnedReport]:
        for number, each in enumerate(ids):
            recipient = mail.recipient(number)
            path = paths.of(each, None, recipient, today)
            head = _DSN.format(path=path, recipient=recipient, number=number)
            yield path, head.encode() + returned + _END

    return [*made()]


async def hand_over(port: int, reports: Sequence[ReturnedReport], connections: int) -> HandedOver:
    """Hand over all reports, over some connections at a time."""
    latencies = list[float]()
    parts = iter(range(0, len(reports), REPORTS_PER_CONNECTION))

    async def over() -> None:
        for start in parts:
            client = await SmtpClient.connect(port)
            for path, content in reports[start : start + REPORTS_PER_CONNECTION]:
                begun = time.perf_counter()
                await client.send(content, "", path)
                latencies.append(time.perf_counter() - begun)
            client.close()

    begun = time.perf_counter()
    await asyncio.gather(*(over() for _ in range(connections)))
    return HandedOver(time.perf_counter() - begun, latencies)


async def read(bench: Bench, plan: BenchPlan) -> HandedOver:
    """Measure inbound and the ledger once. Raises BenchError if a report is not published."""
    ids = [secrets.token_hex(8) for _ in range(plan.count)]
    [port] = ports.unused(1)
    own = {
        "INBOUND_REPORT_DOMAIN": _DOMAIN,
        "INBOUND_REPORT_HOST": "127.0.0.1",
        "INBOUND_REPORT_PORT": str(port),
    }
    reports = reports_of(ids, bench.secrets["BOUNCE_KEY"])
    async with (
        Vhost.opened(bench) as vhost,
        vhost.running("ledger") as ledger,
        vhost.running("inbound", None, **own),
    ):
        await vhost.fill(ids)
        await _recorded(ledger, plan.count)
        found = await bench.call(hand_over, port, reports, plan.connections)
        published = await vhost.waiting(EVIDENCE)
    if published != plan.count:
        raise BenchError(f"{published} reports were published, of {plan.count}")
    return found


async def _recorded(ledger: MeasuredService, count: int) -> None:
    """Wait until the ledger has recorded so many mails."""
    async with asyncio.timeout(_RECORD_SECONDS):
        while True:
            metrics = await ledger.metrics()
            if total(metrics, "postrider_deliveries_total", queue=LEDGER_MAIL, end="done") >= count:
                return
            await asyncio.sleep(_LOOK_SECONDS)


async def lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure, and yield the table and its verdict."""
    yield (
        f"\n{plan.count:,} reports over {plan.connections} SMTP connections,"
        f" {plan.repetitions} times; {load_average()}"
    )
    found = [await read(bench, plan) for _ in range(plan.repetitions)]
    rates = [len(each.latencies) / each.seconds for each in found]
    latencies = [latency for each in found for latency in each.latencies]
    series = Series("from DATA to 250", rates, latencies)
    yield report.table("reports/s", [series])
    yield report.at_least(series, WANTED_RATE)
