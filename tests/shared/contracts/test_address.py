"""Addresses: one canonical form of each, and nothing that could start a header of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts import address

UNSAFE = ["\r", "\n", "\r\n", "\x00", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "=?"]
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).filter(
    lambda label: label[2:4] != "--"
)
# With the longest local part, an address of 140 characters: 254 are allowed.
DOMAINS = st.builds(
    lambda labels: ".".join([*labels, "example"]), st.lists(LABELS, min_size=1, max_size=4)
)
LOCALS = st.from_regex(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,40}", fullmatch=True).filter(
    lambda local: "=?" not in local
)
NAMES = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=address.MAX_NAME_CHARS
).filter(lambda name: "=?" not in name)


def quoted(name: str) -> str:
    """Write a name as a quoted-string (RFC 5322 3.2.4)."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ann@example.org", "ann@example.org"),
        ("Ann@EXAMPLE.Org", "Ann@example.org"),
        ("ann+tag@bücher.example", "ann+tag@xn--bcher-kva.example"),
        ("ännchen@example.org", "ännchen@example.org"),
        ("<ann@example.org>", "ann@example.org"),
        ("Ann <ann@example.org>", "Ann <ann@example.org>"),
        ("  Ann   B  <ann@example.org>", "Ann B <ann@example.org>"),
        ("Jürgen <j@example.org>", "Jürgen <j@example.org>"),
        ("J. Doe <j@example.org>", '"J. Doe" <j@example.org>'),
        ('"Doe, John" <j@example.org>', '"Doe, John" <j@example.org>'),
        ('"Plain" <j@example.org>', "Plain <j@example.org>"),
        ('"" <j@example.org>', "j@example.org"),
        (r'"say \"hi\" \\ <x@y>" <j@example.org>', r'"say \"hi\" \\ <x@y>" <j@example.org>'),
        ("ann@mail.local", "ann@mail.local"),
    ],
)
def test_a_mailbox_has_one_canonical_form(text: str, canonical: str) -> None:
    """All spellings of a mailbox have one canonical form, quoted where it must be."""
    assert address.check_mailbox(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "ann",
        "@example.org",
        "ann@",
        "ann@localhost",
        "ann@example..org",
        "ann@.example.org",
        "ann@example.org.",
        "ann@exa mple.org",
        "ann@[192.0.2.1]",
        "ann@192.0.2.1",
        "ann@-x.example",
        "a b@example.org",
        ".ann@example.org",
        "an..n@example.org",
        '"ann b"@example.org',
        "ann@example.org ",
        "ann@example.org, bob@example.org",
        "ann@example.org;bob@example.org",
        "Ann <ann@example.org>, Bob <bob@example.org>",
        "Doe, John <j@example.org>",
        "friends: ann@example.org;",
        "Ann <ann@example.org> (work)",
        "Ann <<ann@example.org>>",
        "Ann <>",
        "Ann <ann@example.org",
        'Ann" <ann@example.org>',
        '"Ann\\" <ann@example.org>',
        "@relay.example:ann@example.org",
        "x" * 65 + "@example.org",
        "ann@" + "x" * 64 + ".example",
        "ann@" + "x." * 125 + "example",
        "N" * 201 + " <ann@example.org>",
    ],
)
def test_text_that_is_not_one_mailbox_is_refused(text: str) -> None:
    """Lists, groups, routes, comments, literals and broken forms are no mailbox."""
    with pytest.raises(ValueError, match=r"."):
        address.check_mailbox(text)


@given(local=LOCALS, domain=DOMAINS, name=NAMES)
def test_the_canonical_form_is_a_fixed_point(local: str, domain: str, name: str) -> None:
    """The canonical form of a mailbox is canonical: a second check changes nothing."""
    canonical = address.check_mailbox(f"{quoted(name)} <{local}@{domain}>")

    assert address.check_mailbox(canonical) == canonical
    assert address.split_mailbox(canonical) == (" ".join(name.split()), f"{local}@{domain}")


@given(text=st.text() | st.text('abc <>@",;:\\.=?()\r\n', max_size=30))
def test_any_text_is_a_fixed_point_or_refused(text: str) -> None:
    """A second check neither refuses nor changes the result of the first."""
    try:
        canonical = address.check_mailbox(text)
    except ValueError:
        return

    assert address.check_mailbox(canonical) == canonical


@given(local=LOCALS, domain=DOMAINS)
def test_parts_are_what_was_put_together(local: str, domain: str) -> None:
    """The envelope's address and its domain are those of the mailbox."""
    mailbox = address.check_mailbox(f"Name <{local}@{domain}>")

    assert address.bare_address(mailbox) == address.check_address(f"{local}@{domain}")
    assert address.domain_of(address.bare_address(mailbox)) == address.check_domain(domain)


@pytest.mark.parametrize("domain", ["bücher.example", "STRASSE.example", "straße.example", "ÅB.se"])
def test_a_domain_is_written_one_way_everywhere(domain: str) -> None:
    """The evidence on a domain must meet the recipients of that domain."""
    recipient = address.check_address(f"ann@{domain}")

    assert address.domain_of(recipient) == address.check_domain(domain)


def test_an_address_has_no_name() -> None:
    """A bare address has no display name."""
    assert address.check_address("ann@EXAMPLE.org") == "ann@example.org"

    with pytest.raises(ValueError, match="bare address"):
        address.check_address("Ann <ann@example.org>")


@pytest.mark.parametrize("unsafe", UNSAFE, ids=repr)
def test_header_text_refuses_control_characters(unsafe: str) -> None:
    """Controls and encoded words are refused, wherever they stand."""
    for text in (unsafe, f"a{unsafe}b", f"a{unsafe}", f"{unsafe}b"):
        with pytest.raises(ValueError, match="control characters"):
            address.check_header_text(text)


@given(
    text=st.text(st.characters(exclude_categories=["Cc", "Zl", "Zp"])).filter(
        lambda text: "=?" not in text
    )
)
def test_header_text_gives_all_other_text_back(text: str) -> None:
    """A safe text is not changed."""
    assert address.check_header_text(text) is text


@pytest.mark.parametrize("hidden", [r"=\?utf-8?Q?=0A?=", r"\=\?utf-8?Q?=0A?="])
def test_quoting_hides_no_encoded_word(hidden: str) -> None:
    """The name is checked again without its quotes."""
    with pytest.raises(ValueError, match="encoded words"):
        address.check_mailbox(f'"{hidden}" <ann@example.org>')


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("example.org", "example.org"),
        (" Example.ORG ", "example.org"),
        ("example.org.", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("\uff45xample\u3002org", "example.org"),
    ],
)
def test_a_domain_is_lower_case_a_labels(text: str, domain: str) -> None:
    """Unicode, case, full width and a trailing dot make no other domain."""
    assert address.check_domain(text) == domain


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "localhost",
        "example..org",
        ".example.org",
        "example.org..",
        "192.0.2.1",
        "[192.0.2.1]",
        "::1",
        "example.org:25",
        "exa mple.org",
        "_dmarc.example.org",
        "-x.example",
        "x-.example",
        "xn--a.example",
        "☃.example",
        "x" * 64 + ".example",
        "x." * 125 + "example",
        "é." * 500_000 + "example",
        "ann@example.org",
    ],
)
def test_a_wrong_domain_is_refused(text: str) -> None:
    """A domain is a name that can stand in an address."""
    with pytest.raises(ValueError, match="domain"):
        address.check_domain(text)


@given(text=st.from_regex(r"([a-z0-9]{1,8}(-[a-z0-9]{1,4}){0,2}\.){1,3}[a-z]{2,5}", fullmatch=True))
def test_a_plain_domain_is_what_the_library_says(text: str) -> None:
    """The fast check of a domain accepts nothing that the full check would refuse or change."""
    assert address.check_domain(text) == address._check_any_domain(text) == text


@given(text=st.text() | DOMAINS)
def test_a_domain_is_a_fixed_point_or_refused(text: str) -> None:
    """A second check neither refuses nor changes the result of the first."""
    try:
        domain = address.check_domain(text)
    except ValueError:
        return

    assert address.check_domain(domain) == domain
    assert domain == domain.lower()
    assert domain.isascii()


@given(
    text=st.from_regex(
        r"[A-Za-z0-9_+-]{1,8}(\.[A-Za-z0-9_+-]{1,8}){0,2}"
        r"@([a-z0-9]{1,8}(-[a-z0-9]{1,4}){0,2}\.){1,2}[a-z]{2,5}",
        fullmatch=True,
    )
)
def test_the_short_way_finds_what_the_library_finds(text: str) -> None:
    """The fast check accepts only addresses that the library's check leaves unchanged."""
    assert address._PLAIN.fullmatch(text)
    assert address._check_by_library(text) == text
