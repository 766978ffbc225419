"""Pure: the mail that carries a code."""

from dataclasses import dataclass, field

import orjson

# No code in it: subjects are logged by relays and shown on locked screens.
SUBJECT = "Your code to confirm your email address"

_TEXT = """\
Your code to confirm your email address is:

{code}

It can be used once, within {lifetime}.

Never give it to anyone. We shall never ask you for it.
If you did not ask for a code, you need not do anything.
"""

_HTML = """\
<!doctype html>
<html lang="en">
<body style="font-family: sans-serif; font-size: 16px; line-height: 1.5">
<p>Your code to confirm your email address is:</p>
<p style="font-family: monospace; font-size: 32px; letter-spacing: 4px"><strong>
{code}
</strong></p>
<p>It can be used once, within {lifetime}.</p>
<p><strong>Never give it to anyone.</strong> We shall never ask you for it.<br>
If you did not ask for a code, you need not do anything.</p>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Mail:
    """Text and HTML; both hold the code, so that neither is ever shown in a log."""

    text: str = field(repr=False)
    html: str = field(repr=False)

    def encode(self) -> bytes:
        """Give the content as the sender expects it under a seal: a JSON object."""
        return orjson.dumps({"text": self.text, "html": self.html})


def compose(code: str, seconds: float) -> Mail:
    """Write the mail of a code that lives `seconds` more: the code alone on its line, no link."""
    lifetime = _spoken(seconds)
    return Mail(
        _TEXT.format(code=code, lifetime=lifetime), _HTML.format(code=code, lifetime=lifetime)
    )


def _spoken(seconds: float) -> str:
    """Say a time in whole minutes, never more than there is, but for the last one."""
    minutes = max(1, int(seconds // 60))
    return "1 minute" if minutes == 1 else f"{minutes} minutes"
