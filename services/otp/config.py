"""The settings of the otp service."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    InstanceOf,
    StringConstraints,
    model_validator,
)
from pydantic_settings import NoDecode

from services.otp import folder
from services.otp.mail import Imprint
from services.otp.phrasebook import Phrasebook
from services.otp.template import check_no_link
from shared import address
from shared.config import Seconds, Settings
from shared.fields import Domain, Id, Locale, Mailbox
from shared.sealing import read_keys

MAX_LIFETIME = 86_400.0  # seconds; NIST SP 800-63A lets a mailed confirmation code live a day
# Rows leave within a day of their death: challenges are kept 20 hours, see `store`.
MAX_PURGE_SECONDS = 4 * 3600.0


def _check_keys(text: str) -> str:
    read_keys(text)
    return text


Keys = Annotated[
    str,
    Field(repr=False, description="Of 32 bytes as hex, newest first, separated by commas"),
    AfterValidator(_check_keys),
]
# Given as the directory that they are in, and read with the other settings: what cannot be used is
# told before anything is opened.
Templates = Annotated[InstanceOf[Phrasebook], NoDecode, BeforeValidator(folder.read)]
Product = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=60),
    AfterValidator(address.check_header_text),
    AfterValidator(check_no_link),
]


class OtpSettings(Settings):
    """What the otp service is told."""

    service: ClassVar[str] = "otp"

    otp_key: Keys
    sealing_key: Keys
    otp_lifetime: Seconds = Field(600.0, le=MAX_LIFETIME, description="Of a code")
    otp_tries: int = Field(5, ge=1, le=100, description="Guesses a code allows")
    otp_digits: int = Field(6, ge=4, le=8)
    otp_sender: Mailbox | None = Field(None, description="From; the sender's default if absent")
    otp_templates: Templates = Field(
        default_factory=folder.shipped,
        validate_default=False,
        repr=False,
        description="A directory of <locale>.toml, mail.txt, mail.html in place of those shipped",
    )
    otp_locale: Locale = Field("en", description="Of mails, where no other is asked for or known")
    otp_product: Product | None = Field(None, description="What mails say that the code is for")
    otp_products: Mapping[Id, Product] = Field(
        default_factory=dict, description="The same by client, as a JSON object"
    )
    otp_autofill_domain: Domain | None = Field(
        None, description="Where codes are typed: the text's last line binds them to it"
    )
    otp_purge_seconds: Seconds = Field(
        3600.0, le=MAX_PURGE_SECONDS, description="Between two clearings of dead challenges"
    )

    @model_validator(mode="after")
    def _speaks_its_language(self) -> Self:
        try:
            self.otp_templates.nearest(self.otp_locale)
        except KeyError:
            raise ValueError("OTP_LOCALE must be one that there is a template for") from None
        return self

    @property
    def imprint(self) -> Imprint:
        """What mails say of this deployment."""
        return Imprint(
            self.otp_sender,
            self.otp_locale,
            self.otp_product,
            self.otp_products,
            self.otp_autofill_domain,
        )
