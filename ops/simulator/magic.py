"""The faults that an address asks for. Pure.

The local part is read in pieces between `+`, so that `reply-rcpt-550-5-1-1+anna@x` and
`anna+slow-200-dot@x` ask for faults as well, and each test can have recipients of its own.

    reply-<stage>-<code>[-<enhanced code with dashes>]   a 4xx or 5xx reply there
    drop-<stage>                                         the connection is cut there
    drop-after-dot                                       stored, then cut before the reply
    slow-<ms>-<stage>                                    the reply comes later
    greylist-<s>                                         451 4.7.1, for s seconds after a first try
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

Stage = Literal["mail", "rcpt", "data", "dot"]

_STAGE: Final = "(?P<stage>mail|rcpt|data|dot)"
_REPLY: Final = re.compile(
    rf"reply-{_STAGE}-(?P<code>[45]\d\d)(?P<enhanced>-[45]-\d{{1,3}}-\d{{1,3}})?",
    re.ASCII,
)
_DROP: Final = re.compile(rf"drop-(?P<after>after-(?=dot))?{_STAGE}")
_SLOW: Final = re.compile(rf"slow-(?P<ms>\d{{1,6}})-{_STAGE}", re.ASCII)
_GREYLIST: Final = re.compile(r"greylist-(?P<seconds>\d{1,5})", re.ASCII)
_PREFIXES: Final = ("reply-", "drop-", "slow-", "greylist-")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault at one stage: a wait, then a cut or a reply. By default there is none."""

    delay: float = 0.0  # seconds
    reply: str | None = None
    cut: bool = False
    cut_after: bool = False  # the dot only: store the mail, then cut
    greylist: int | None = None  # seconds, RCPT only


NO_FAULT: Final = Fault()


def fault_at(stage: Stage, addresses: Iterable[str]) -> Fault:
    """Return the fault of the first address that asks for one at this stage."""
    faults = (_fault(stage, address) for address in addresses)
    return next((fault for fault in faults if fault != NO_FAULT), NO_FAULT)


def _fault(stage: Stage, address: str) -> Fault:
    fault = NO_FAULT
    for piece in address.rpartition("@")[0].lower().split("+"):
        if piece.startswith(_PREFIXES):
            fault = _with(fault, stage, piece)
    return fault


def _with(fault: Fault, stage: Stage, piece: str) -> Fault:
    if (match := _GREYLIST.fullmatch(piece)) and stage == "rcpt":
        return replace(fault, greylist=int(match["seconds"]))
    match = next(filter(None, (p.fullmatch(piece) for p in (_REPLY, _DROP, _SLOW))), None)
    if match is None or match["stage"] != stage:
        return fault
    if match.re is _SLOW:
        return replace(fault, delay=int(match["ms"]) / 1000)
    if match.re is _REPLY:
        return replace(fault, reply=_reply(match["code"], match["enhanced"]))
    return replace(fault, cut_after=True) if match["after"] else replace(fault, cut=True)


def _reply(code: str, enhanced: str | None) -> str:
    status = f" {enhanced[1:].replace('-', '.')}" if enhanced else ""
    return f"{code}{status} As this address asks for"
