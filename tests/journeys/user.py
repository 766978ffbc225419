"""A user of the stack: an HTTP client with a key, and the mailbox."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import until

CODE = re.compile(r"^\s*(\d{6})\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    """One response of the gateway."""

    status: int
    headers: Mapping[str, str]
    body: Any


class User:
    """Uses the gateway and the mailbox, and nothing else of the stack."""

    def __init__(self, http: aiohttp.ClientSession, record: Mapping[str, Any]) -> None:
        self._http = http
        self._record = record

    @classmethod
    @asynccontextmanager
    async def of(cls, record: Mapping[str, Any]) -> AsyncIterator["User"]:
        """Open the connections that a user of this stack needs."""
        # Nothing answers at the address of a container that has stopped.
        timeout = aiohttp.ClientTimeout(total=30, sock_connect=5)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            yield cls(http, record)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request to the gateway, with the stack's own key unless another is given.

        The body is sent as JSON, octets as they are.
        """
        authorization = f"Bearer {key or self._record['client_key']}"
        async with self._http.request(
            method,
            f"{self._record['gateway_url']}{path}",
            json=None if isinstance(body, bytes) else body,
            data=body if isinstance(body, bytes) else None,
            headers={"Authorization": authorization, **(headers or {})},
        ) as response:
            content = await response.json() if "json" in response.content_type else None
            return Answer(response.status, response.headers, content)

    async def send(self, to: str | list[str], **more: object) -> Answer:
        """Request a mail."""
        body = {"to": to, "subject": "Hello", "text": "It works.", **more}
        return await self.ask("POST", "/v1/messages", body)

    async def mails(self, to: str) -> list[dict[str, Any]]:
        """Return the mails that arrived for an address, the newest first."""
        address = {"to": to, "limit": "1000"}
        url = f"{self._record['mailbox_url']}/api/messages"
        async with self._http.get(url, params=address) as response:
            found: list[dict[str, Any]] = await response.json()
            return found

    async def source(self, mail: Mapping[str, Any]) -> bytes:
        """Return the octets of a mail, as the SMTP server received them."""
        async with self._http.get(mail["raw_url"]) as response:
            return await response.read()

    async def wait_for_mails(
        self, to: str, count: int = 1, within: float = 30
    ) -> list[dict[str, Any]]:
        """Wait until so many mails have arrived for an address. Raises TimeoutError."""

        async def arrived() -> bool:
            return len(await self.mails(to)) >= count

        await until(arrived, within)
        return await self.mails(to)

    async def wait_for_code(self, email: str, count: int = 1) -> str:
        """Return the code in the newest of `count` mails to an address."""
        mails = await self.wait_for_mails(email, count)
        found = CODE.search(mails[0]["text"])
        assert found, "no code stands alone on a line"
        return found[1]

    async def verify(self, email: str, code: str, **more: object) -> Answer:
        """Verify a code, and return the whole response."""
        return await self.ask("POST", "/v1/otp/verify", {"email": email, "code": code, **more})

    async def verified(self, email: str, code: str) -> bool:
        """Return whether a code is right."""
        answer = await self.verify(email, code)
        assert answer.status == 200, answer
        verdict: bool = answer.body["verified"]
        return verdict

    async def wait_for_domain(self, domain: str, counted: int) -> dict[str, Any]:
        """Wait until so many events of a domain are counted; return its description."""

        async def is_counted() -> bool:
            answer = await self.ask("GET", f"/v1/domains/{domain}")
            return bool(answer.body["delivered"] + answer.body["bounced"] >= counted)

        await until(is_counted, within=30)
        described: dict[str, Any] = (await self.ask("GET", f"/v1/domains/{domain}")).body
        return described

    @asynccontextmanager
    async def offering(self, extension: str) -> AsyncIterator[None]:
        """Offer one more extension on new connections to the mailbox's SMTP server."""
        before = await self._behaviour("GET")
        extensions = [*before["extensions"], extension]
        await self._behaviour("PUT", {**before, "extensions": extensions})
        try:
            yield
        finally:
            await self._behaviour("PUT", before)

    async def _behaviour(self, method: str, document: object = None) -> dict[str, Any]:
        url = f"{self._record['mailbox_url']}/api/behaviour"
        async with self._http.request(
            method, url, json=document, raise_for_status=True
        ) as response:
            behaviour: dict[str, Any] = await response.json()
            return behaviour

    async def metric(self, service: str, name: str) -> float:
        """Return the sum of a service's samples of a name."""
        url = self._record["services"][service]["health_url"].replace("healthz", "metrics")
        async with self._http.get(url) as response:
            families = text_string_to_metric_families(await response.text())
        samples = (sample for family in families for sample in family.samples)
        return sum(sample.value for sample in samples if sample.name == name)

    async def wait_until_ready(self, service: str) -> None:
        """Wait until a service is ready again."""
        url = self._record["services"][service]["health_url"].replace("healthz", "readyz")

        async def ready() -> bool:
            try:
                async with self._http.get(url) as response:
                    return response.status == 200
            except (TimeoutError, aiohttp.ClientError):
                return False

        await until(ready, within=30)
