"""An SMTP server that keeps nothing, for machines without `smtp-sink`: `PORT` is its argument.

It looks for the end of a mail in what has arrived and at nothing else, so it costs little beside
the client that is measured.
"""

import asyncio
import re
import sys
from typing import cast

import uvloop

_END_OF_MAIL = b"\r\n.\r\n"
_COMMAND = re.compile(rb"[^\r\n]*\r\n")
_GREETING = b"220 discard\r\n"
_OK = b"250 2.0.0 Ok\r\n"
_REPLIES = {
    b"EHLO": b"250-discard\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    b"DATA": b"354 End data with <CR><LF>.<CR><LF>\r\n",
    b"QUIT": b"221 2.0.0 Bye\r\n",
}


class Discard(asyncio.Protocol):
    """One connection. The mails of all are counted together, on standard output."""

    mails = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)
        self._rest = b""
        self._in_mail = False
        self._transport.write(_GREETING)

    def data_received(self, data: bytes) -> None:
        """Answer all that is complete."""
        self._rest += data
        while self._mail_ended() if self._in_mail else self._commanded():
            pass

    def named(self, recipient: bytes) -> None:
        """Hear the line that names a recipient."""

    def ended(self) -> None:
        """Hear that a mail has come to its end."""
        Discard.mails += 1
        sys.stdout.write(f"mesg={Discard.mails}\r")
        sys.stdout.flush()

    def _mail_ended(self) -> bool:
        end = self._rest.find(_END_OF_MAIL)
        if end < 0:
            return False
        self._rest = self._rest[end + len(_END_OF_MAIL) :]
        self._in_mail = False
        self.ended()
        self._transport.write(_OK)
        return True

    def _commanded(self) -> bool:
        line = _COMMAND.match(self._rest)
        if line is None:
            return False
        verb = line[0][:4].upper()
        self._transport.write(_REPLIES.get(verb, _OK))
        # The line's end stays, as the one before a dot that ends an empty mail.
        self._rest = self._rest[line.end() - 2 if verb == b"DATA" else line.end() :]
        self._in_mail = verb == b"DATA"
        if verb == b"RCPT":
            self.named(line[0])
        if verb == b"QUIT":
            self._transport.close()
        return True


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Discard, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
