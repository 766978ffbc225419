"""`ops classify`: the class of an SMTP reply, and the rule that decided it.

A reply may be as a server sent it, a line from a log of Postfix, Exim or Sendmail, or the
Diagnostic-Code of a report.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from shared.contracts import Stage
from shared.replies.classify import classify, load_rules

# Not part of an IP address or of an enhanced code.
_CODE = re.compile(r"(?<![\w.\[#])([245]\d\d)(?=[ -]|$)[ -]?", re.ASCII)
_CODE_AND_ENHANCED = re.compile(r"(?<![\w.\[#])([245]\d\d)[ -](?=#?[245]\.\d)", re.ASCII)
_BARE_ENHANCED = re.compile(r"(?<![\w.#])(?=[245]\.\d{1,3}\.\d{1,3}(\s|$))", re.ASCII)
# The words of Postfix, then of Exim and Sendmail, for the command that was answered.
_STAGES = (
    (Stage.RCPT, re.compile(r"in reply to RCPT TO|after (pipelined )?RCPT TO|>>> RCPT")),
    (Stage.MAIL, re.compile(r"in reply to MAIL FROM|after (pipelined )?MAIL FROM|>>> MAIL")),
    (Stage.DOT, re.compile(r"in reply to end of DATA|after (pipelined )?end of data")),
    (Stage.DATA, re.compile(r"in reply to DATA|after (pipelined )?DATA|>>> DATA")),
    (Stage.EHLO, re.compile(r"in reply to (HELO|EHLO)|after (HELO|EHLO)")),
    (Stage.CONNECT, re.compile(r"refused to talk to me|after initial connection")),
)


_POSITIVE = re.compile(r"[23]\d\d(?=[ -]|$)", re.ASCII)
_FIRST_REFUSAL = 400
_IN_DOUBT = "undetermined"  # the rule where no other matches; it quotes RFC 5321 on 550


class NoRefusalError(Exception):
    """The line does not refuse a mail."""


@dataclass(frozen=True, slots=True)
class ClassifiedReply:
    """A reply and its class; `why` is the source of the rule."""

    reply: str
    stage: str | None
    code: int
    reply_class: str
    rule: str
    why: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the reply and its context."""
    parser.add_argument("reply", help="'550 5.1.1 no such user', or - for one a line")
    parser.add_argument(
        "--stage",
        choices=tuple(map(str, Stage)),
        help="the command that was answered (default: RCPT)",
    )
    parser.add_argument("--host", default="", help="the server that sent it")
    parser.add_argument("--recipient", default="", help="the recipient of the mail")
    parser.add_argument("--json", action="store_true", help="for programs, one object a line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the class of each reply; return 1 where a line is no refusal, with the reason."""
    many, code = arguments.reply == "-", 0
    stage = Stage(arguments.stage) if arguments.stage else None
    for line in _lines(sys.stdin) if many else [arguments.reply]:
        try:
            found = classify_line(line, stage, arguments.host, arguments.recipient)
        except NoRefusalError as error:
            print(f"classify: {error}" + (f": {line}" if many else ""), file=sys.stderr)
            code = 1
            continue
        if arguments.json:
            print(json.dumps(asdict(found), ensure_ascii=False))
        elif many:
            print(found.reply_class, found.rule, found.reply, sep="\t")
        else:
            print(f"class  {found.reply_class}\nrule   {found.rule}\nwhy    {found.why}")
    return code


def classify_line(
    line: str, stage: Stage | None = None, host: str = "", recipient: str = ""
) -> ClassifiedReply:
    """Return the class of one reply; the stage is read from the line if it is not given.

    Raises NoRefusalError for a line without a refusal.
    """
    if positive := _POSITIVE.match(line.strip()):
        raise NoRefusalError(f"{positive[0]} refuses nothing (RFC 5321 4.2.1)")
    code, text = split_reply(line)
    if code and not code >= _FIRST_REFUSAL:
        raise NoRefusalError(f"{code} refuses nothing (RFC 5321 4.2.1)")
    stage = stage or next((each for each, words in _STAGES if words.search(line)), None)
    found = classify(stage, code, None, text, host, recipient=recipient)
    name = found.rule.partition("@")[0]
    if name == _IN_DOUBT and not code and not _BARE_ENHANCED.search(line):
        raise NoRefusalError("no reply code, no enhanced code, and no words that a rule knows")
    why = next(each.source for each in load_rules().rules if each.id == name)
    return ClassifiedReply(line, stage, code, found.reply_class, found.rule, why)


def split_reply(line: str) -> tuple[int, str]:
    """Return the reply code, 0 if there is none, and the text behind it."""
    found = _CODE_AND_ENHANCED.search(line) or _CODE.match(line) or _CODE.search(line)
    if found:
        return int(found[1]), line[found.end() :]
    bare = _BARE_ENHANCED.search(line)
    return 0, line[bare.start() :] if bare else line


def _lines(lines: Iterable[str]) -> Iterable[str]:
    return (line.strip() for line in lines if line.strip())
