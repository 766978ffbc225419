"""Tests of the class of a reply, on the examples and on replies made for the purpose."""

import pytest

from shared.contracts import ReplyClass, Stage
from shared.replies.classify import classify, words_of
from tests.shared import replies
from tests.shared.score import report, score

UNKNOWN = ReplyClass.MAILBOX_UNKNOWN
BEFORE_RCPT = (Stage.CONNECT, Stage.EHLO, Stage.TLS, Stage.AUTH, Stage.MAIL)


def class_of(stage: Stage | None, code: int, text: str, recipient: str = "") -> ReplyClass:
    """Return the class of a reply."""
    return classify(stage, code, None, text, recipient=recipient).reply_class


@pytest.mark.parametrize("part", replies.PARTS)
def test_examples(part: str) -> None:
    """Precision and recall are high on each part of the corpus, above all for unknown mailboxes."""
    found = score(replies.read(part))
    precision, recall = found.macro()

    assert found.precision(UNKNOWN) >= 0.98, report(part)
    assert found.recall(UNKNOWN) >= 0.95, report(part)
    assert precision >= 0.95, report(part)
    assert recall >= 0.95, report(part)


@pytest.mark.parametrize("part", replies.HALVES)
def test_replies_from_elsewhere(part: str) -> None:
    """Replies from the pages of providers and the sources of servers are told apart too."""
    found = score(replies.read(part))

    assert found.precision(UNKNOWN) >= 0.98, report(part)
    assert found.recall(UNKNOWN) >= 0.85, report(part)
    assert found.right >= 0.85, report(part)


def test_the_corpus() -> None:
    """The parts have no reply in common, and each of the four oldest has every class."""
    parts = [list(replies.read(part)) for part in (*replies.PARTS, *replies.HALVES)]
    texts = [(each.stage, each.text) for part in parts for each in part]

    assert len(set(texts)) == len(texts)
    for part in parts[: len(replies.PARTS)]:
        assert {each.reply_class for each in part} == set(ReplyClass)


@pytest.mark.parametrize(
    ("code", "text", "found"),
    [
        (550, "5.1.1 User unknown", ReplyClass.MAILBOX_UNKNOWN),
        (550, "5.2.1 Mailbox disabled", ReplyClass.MAILBOX_DISABLED),
        (552, "5.2.2 Mailbox full", ReplyClass.MAILBOX_FULL),
        (550, "5.1.2 Host unknown", ReplyClass.DOMAIN),
        (550, "5.7.1 Access denied", ReplyClass.POLICY),
        (554, "5.7.1 Client host [192.0.2.7] blocked", ReplyClass.SPAM_BLOCK),
        (550, "5.7.23 SPF validation failed", ReplyClass.AUTH_SENDER),
        (550, "5.6.0 Invalid header", ReplyClass.CONTENT),
        (552, "5.3.4 Message too big", ReplyClass.TOO_BIG),
        (452, "4.5.3 Too many recipients", ReplyClass.RATE),
        (450, "4.7.1 Greylisted", ReplyClass.TEMPORARY),
        (554, "5.7.1 Relay access denied", ReplyClass.RELAY_DENIED),
        (553, "5.1.8 Sender domain does not exist", ReplyClass.OUR_CONFIG),
        (503, "5.5.1 Bad sequence of commands", ReplyClass.PROTOCOL),
        (550, "5.4.7 Delivery time expired", ReplyClass.EXPIRED),
        (550, "No", ReplyClass.UNDETERMINED),
    ],
)
def test_each_class(code: int, text: str, found: ReplyClass) -> None:
    """A typical reply of each class is classified as such."""
    assert class_of(Stage.RCPT, code, text) is found


@pytest.mark.parametrize("part", replies.PARTS)
@pytest.mark.parametrize("stage", BEFORE_RCPT)
def test_no_mailbox_is_unknown_before_rcpt(part: str, stage: Stage) -> None:
    """A reply before RCPT is never about an unknown mailbox."""
    for each in replies.read(part):
        assert class_of(stage, 550, each.text) is not UNKNOWN, each.text


@pytest.mark.parametrize(
    ("stage", "text", "unknown"),
    [
        (Stage.DOT, "5.1.1 User unknown", True),
        (Stage.DATA, "5.1.1 User unknown", True),
        (Stage.DOT, "delivery error: dd This user doesn't have a yahoo.com account", True),
        (Stage.DOT, "Unknown user anna@x.example", False),  # docomo: a filter of the user
        (Stage.DOT, "No such user here", False),
        (Stage.DOT, "Requested action not taken: mailbox unavailable", False),
        (None, "No such user here", True),
    ],
)
def test_after_data(stage: Stage | None, text: str, unknown: bool) -> None:  # noqa: FBT001 -- a table
    """After DATA the words for an unknown mailbox are no proof: a filter may use them."""
    assert (class_of(stage, 550, text) is UNKNOWN) is unknown


@pytest.mark.parametrize(
    "text", ["", "No", "5.0.0", "Requested action not taken", "Error", "ERR-7"]
)
@pytest.mark.parametrize("code", [550, 551, 553, 554])
def test_a_bare_code_says_nothing(code: int, text: str) -> None:
    """The code 550 alone does not mean an unknown mailbox: it is for policy reasons too."""
    assert class_of(Stage.RCPT, code, text) is ReplyClass.UNDETERMINED


@pytest.mark.parametrize(
    "block",
    [
        "your host is on our blacklist",
        "blocked using zen.spamhaus.org",
        "listed in the RBL",
        "listed at bl.spamcop.net",
        "poor reputation",
        "[S3150]",
        "banned",
        "(BL000001)",
        "[TSS04]",
        "spam",
        "SPF check failed",
        "too many connections",
        "rate limit exceeded",
        "due to policy restrictions",
    ],
)
@pytest.mark.parametrize("text", ["5.1.1 User unknown, {}", "No such user: {}", "5.1.1 {}"])
def test_a_block_beats_an_unknown_mailbox(text: str, block: str) -> None:
    """A block is no unknown mailbox, even with the code of one."""
    assert class_of(Stage.RCPT, 550, text.format(block)) is not UNKNOWN


@pytest.mark.parametrize(
    "recipient",
    ["blocked@spam.example", "policy@x.example", "over-quota@x.example", "rbl@b.example"],
)
def test_the_recipient_is_no_word(recipient: str) -> None:
    """The words of an address do not count, in any form in which the server repeats it."""
    for text in (f"5.1.1 <{recipient}>: User unknown", f"{recipient.upper()} User unknown"):
        assert class_of(Stage.RCPT, 550, text, recipient) is UNKNOWN


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("5.1.0 <anna@x.example> does not exist", True),
        ("5.1.1 <ben@x.example>: no such user", True),
        ("5.1.1 <anna@y.example>: no such user", True),
        ("5.1.0 <post@our.example> does not exist", False),
        ("5.1.1 [post@our.example] user unknown", False),
        ("5.1.1 sender address does not exist", False),
        ("5.1.1 the address in MAIL FROM does not exist", False),
        ("5.1.1 no such user post@our.example", True),
    ],
)
def test_the_subject(text: str, unknown: bool) -> None:  # noqa: FBT001 -- a table
    """A reply that begins with somebody else's address is not about the recipient."""
    assert (class_of(Stage.RCPT, 553, text, "anna@x.example") is UNKNOWN) is unknown


@pytest.mark.parametrize(
    "text",
    [
        "Your IP address is not in our database",
        "recipient is not in our allowed list",
        "user is not handled by this policy",
        "address family not handled by server",
        "Aucun destinataire autorisé",
        "The recipient has banned mail from your domain",
        "We do not have an account for this domain",
        "user has never created this rule",
        "Unknown address error 550-'Relaying denied'",
        "Mailbox database not found",
        "The recipient does not know you",
        "The account you are sending from does not exist",
        "certificate name unknown",
        "Your server's address is invalid",
        "Destination not found in routing table",
        "The user has no valid certificate",
        "mailbox unavailable, your IP is in our list",
        "could not look up user, try again",
        "The mailbox is currently unavailable",
        "no recipients given",
        "not a known customer of this relay",
        "Absender unbekannt",
        "Domain nicht gefunden",
        "Keine Berechtigung für diesen Empfänger",
        "Votre adresse est inconnue",
        "Adresse IP inconnue",
        "L'utente non accetta messaggi",
        "Su servidor no existe en nuestra lista blanca",
        "Remetente não existe",
        "Afzender bestaat niet",
        "Отправитель не найден",
        "域名无效",
        "密码不正确",
        "Commande inconnue",
        "Domein bestaat niet",
        "Сервер не найден",
        "Aucun destinataire indiqué",
        "无效的命令",
        "地址格式错误",
        "送信元アドレスが見つかりません",
        "메일을 보낼 수 없습니다",
        "Boundary not found",
        "You are not known here",
        "Your user name is unknown",
        "user not in database of authorised senders",
        "The recipient does not know the sender",
    ],
)
def test_another_matter(text: str) -> None:
    """The words for an unknown mailbox may be about something else."""
    assert class_of(Stage.RCPT, 550, text) is not UNKNOWN


@pytest.mark.parametrize(
    "text",
    [
        "not one of our users",
        "No record of this user",
        "One or more of the recipients are invalid",
        "mailbox anna unavailable",
        '"anna" is not known here',
        "anna is unknown at host x.example",
        "Benutzer in dieser Domain nicht bekannt",
        "L'adresse n'a pas été trouvée",
        "Impossibile trovare l'indirizzo",
        "Adressen hittades inte",
        "無此使用者",
        "收件人邮箱地址有误",
        "没有找到该用户",
        "無効な宛先",
        "アドレスは登録されていません",
        "사용자를 찾을 수 없습니다",
        "Böyle bir kullanici yok",
        "Nincs ilyen felhasználó",
        "Không tìm thấy địa chỉ",
        "المستخدم غير موجود",
        "Недействительный получатель",
        "Pas d'utilisateur de ce nom",
        "anna@x.example is invalid",
        "The user you are trying to reach isn't here",
        "This address is not associated with an account",
        "Recipient failed verification",
    ],
)
def test_an_unknown_mailbox(text: str) -> None:
    """An unknown mailbox is recognized by what the words say of the recipient."""
    assert class_of(Stage.RCPT, 550, text, "anna@x.example") is UNKNOWN


def test_underscores() -> None:
    """Underscores between words are blanks."""
    assert class_of(Stage.RCPT, 550, "user_unknown") is UNKNOWN
    assert words_of("OFR_416 virus_scan") == ["ofr_416", "virus", "scan"]


def test_the_part_before_the_at() -> None:
    """It is the recipient if it is quoted or comes first; elsewhere it may be any word.

    The whole address is a word of its own where it comes first.
    """
    anna = "anna@x.example"

    assert words_of("5.1.1 Anna: no", anna) == ["recipient", "no"]
    assert words_of('no "anna" here', anna) == ["no", "recipient", "here"]
    assert words_of("5.1.1 <Anna@x.example>: no", anna) == ["rcptto", "no"]
    assert words_of("hannah anna no", anna) == ["hannah", "anna", "no"]
    assert words_of("no @x.example", "@x.example") == ["no"]


def test_a_recipient_that_is_no_address() -> None:
    """The recipient is removed literally, not as a pattern."""
    assert class_of(Stage.RCPT, 550, "User .*( unknown", ".*(") is UNKNOWN


@pytest.mark.parametrize(
    ("code", "enhanced", "text", "found"),
    [
        (550, "5.1.1", "No", UNKNOWN),
        (550, None, "5.1.1 No", UNKNOWN),
        (550, None, "5.1.1", UNKNOWN),
        (550, "4.1.1", "No", ReplyClass.UNDETERMINED),
        (450, "4.1.1", "No", ReplyClass.TEMPORARY),
        (550, None, "No 5.1.1", ReplyClass.UNDETERMINED),
        (550, None, "IP 5.7.1.100 is no friend of ours", ReplyClass.UNDETERMINED),
        (550, "5.1.10", "null MX", ReplyClass.DOMAIN),
        (550, "5.1.10", "RESOLVER.ADR.RecipientNotFound", UNKNOWN),
        (550, "5.2.1", "User unknown", ReplyClass.MAILBOX_DISABLED),
        (550, "5.2.2", "User unknown", ReplyClass.MAILBOX_FULL),
        (0, None, "5.1.1", UNKNOWN),
        (0, None, "does not exist", UNKNOWN),
        (0, None, "4.2.1 does not exist", ReplyClass.TEMPORARY),
    ],
)
def test_enhanced_codes(code: int, enhanced: str | None, text: str, found: ReplyClass) -> None:
    """An enhanced code counts only right after the reply code, and only if it has its class."""
    assert classify(Stage.RCPT, code, enhanced, text).reply_class is found


@pytest.mark.parametrize("text", ["x" * 1000, "a@" * 500, "<" * 1000, "user " * 200, "\x00\ufffd"])
def test_odd_texts(text: str) -> None:
    """Any text has a class."""
    assert class_of(Stage.RCPT, 550, text) in ReplyClass


def test_the_rule() -> None:
    """A classification has its rule and the version of the rules."""
    assert classify(Stage.RCPT, 550, "5.1.1", "No").rule.startswith("code-unknown@")
