"""A DNS server on a loopback port: zones by dnslib, which shares no code with dnspython."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from unittest.mock import patch

from dnslib import RCODE, DNSRecord
from dnslib.server import DNSHandler, DNSLogger, TCPServer, UDPServer
from dnslib.zoneresolver import ZoneResolver

from ops.dns import lookup

_UDP_OCTETS = 512  # RFC 1035 4.2.1; what is larger comes by TCP
_POLL_SECONDS = 0.01  # between two looks at whether the server is to end
_QUERY_SECONDS = 100.0
_TRIES = 20  # for a port that is free for UDP and for TCP


class FailingZones(ZoneResolver):  # type: ignore[misc] # dnslib has no types
    """Answers from zones, and SERVFAIL for names that are broken."""

    def __init__(self, zone: str, broken: Collection[str]) -> None:
        super().__init__(zone)
        self._broken = {f"{name}." for name in broken}

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        """Return the answer to a request; by UDP a large one says only that it is large."""
        reply = super().resolve(request, handler)
        is_broken = str(request.q.qname).lower() in self._broken
        is_large = handler.protocol == "udp" and len(reply.pack()) > _UDP_OCTETS
        if is_broken or is_large:
            reply = request.reply()
            reply.header.rcode = RCODE.SERVFAIL if is_broken else RCODE.NOERROR
            reply.header.tc = int(is_large)
        return reply


@contextmanager
def nameserver(zone: str, broken: Collection[str] = ()) -> Iterator[tuple[str, int]]:
    """Serve the records of a zone file; yield host and port, the same for UDP and TCP."""
    resolver = FailingZones(zone, broken)
    with ExitStack() as stack:
        # This process may stand still for longer than a query has in use.
        stack.enter_context(patch.object(lookup, "QUERY_SECONDS", _QUERY_SECONDS))
        for server in _pair():
            stack.callback(server.server_close)
            server.resolver = resolver
            server.logger = DNSLogger("-request,-reply,-truncated,-error")
            thread = Thread(target=server.serve_forever, args=(_POLL_SECONDS,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        yield "127.0.0.1", server.server_address[1]


def _pair() -> tuple[TCPServer, UDPServer]:
    for _ in range(_TRIES):
        by_tcp = TCPServer(("127.0.0.1", 0), DNSHandler)
        try:
            return by_tcp, UDPServer(by_tcp.server_address, DNSHandler)
        except OSError:  # another program has the port for UDP
            by_tcp.server_close()
    raise OSError("no port is free for UDP and TCP")
