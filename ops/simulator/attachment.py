"""The way an attachment is served to a browser. Pure.

Attachments are hostile input on the origin of the API: a browser must save everything that it
could run there (HTML, SVG, PDF with scripts).
"""

import base64
import html
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, unquote

from ops.simulator.mail import MailAttachment

# Types that a browser shows without running code.
VIEWABLE: Final = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "text/plain"}
)
FILENAME_CHARS: Final = 100  # in the header; file systems allow 255 octets
INLINED_OCTETS: Final = 32 * 2**20  # of the images in one mail's HTML
_RULES: Final = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self'"
_CHARSET: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")
# A URL (RFC 2392) in an attribute or in a style's `url()`.
_CID: Final = re.compile(r"""(["'=(]\s*)cid:([^\s"'<>)]+)""", re.IGNORECASE)


def is_viewable(attachment: MailAttachment) -> bool:
    """Return whether a browser may show it instead of saving it."""
    return attachment.content_type in VIEWABLE


def response_headers(attachment: MailAttachment) -> Mapping[str, str]:
    """Return the HTTP headers: all but viewable types are files to be saved."""
    viewable = is_viewable(attachment)
    name = quote(filename(attachment), safe="")
    disposition = "inline" if viewable else "attachment"
    return {
        "Content-Type": _served_type(attachment) if viewable else "application/octet-stream",
        "Content-Disposition": f"{disposition}; filename*=UTF-8''{name}",  # RFC 6266 4.1
        "Content-Security-Policy": _RULES,
    }


def filename(attachment: MailAttachment) -> str:
    """Return its name without folders, control and direction characters."""
    plain = "".join(char for char in attachment.filename if char.isprintable())
    root, dot, suffix = re.sub(r"[/\\:]", "_", plain).lstrip(". ").rpartition(".")
    if len(suffix) >= FILENAME_CHARS // 2:
        return f"{root}{dot}{suffix}"[:FILENAME_CHARS]
    return f"{root[: FILENAME_CHARS - len(suffix) - 1]}{dot}{suffix}" or "unnamed"


def with_images(text: str, attachments: Sequence[MailAttachment]) -> str:
    """Return HTML in which `data:` URLs replace the `cid:` URLs of images.

    References beyond `INLINED_OCTETS` in all, and unknown ones, stay as they are.
    """
    images = {
        each.content_id: each
        for each in reversed(attachments)
        if each.content_id and each.content_type.startswith("image/")
    }
    left = INLINED_OCTETS

    def inline(match: re.Match[str]) -> str:
        nonlocal left
        image = images.get(unquote(html.unescape(match[2])))
        if image is None or image.size > left:
            return match[0]
        left -= image.size
        encoded = base64.b64encode(image.octets).decode()
        return f"{match[1]}data:{quote(image.content_type, safe='/+')};base64,{encoded}"

    return _CID.sub(inline, text)


def _served_type(attachment: MailAttachment) -> str:
    if attachment.content_type != "text/plain":
        return attachment.content_type
    charset = attachment.charset or ""
    return f"text/plain; charset={charset if _CHARSET.fullmatch(charset) else 'utf-8'}"
