"""Where the sender's time goes, by its own metrics: between delivery and acknowledgement."""

from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.errors import BenchError

_HANDLING = "postrider_handling_seconds"
_TRANSACTION = "postrider_smtp_transaction_seconds"


@dataclass(frozen=True, slots=True)
class Timings:
    """Means over all mails since the sender started, in seconds."""

    handling: float  # from delivery to acknowledgement
    smtp: float  # its part that is the SMTP transaction


async def fetch(health_port: int) -> Timings:
    """Ask a running sender. Raises BenchError."""
    url = f"http://127.0.0.1:{health_port}/metrics"
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, raise_for_status=True) as response,
        ):
            return read(await response.text())
    except aiohttp.ClientError as error:
        raise BenchError(f"the sender tells no metrics: {error}") from error


def read(text: str) -> Timings:
    """Read the text format of Prometheus."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return Timings(_mean(sums, _HANDLING), _mean(sums, _TRANSACTION))


def _mean(sums: dict[str, float], name: str) -> float:
    count = sums.get(f"{name}_count", 0.0)
    return sums[f"{name}_sum"] / count if count else 0.0
