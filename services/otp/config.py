"""The settings of the otp service."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
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

from services.otp.codes import DIGITS, SECOND_MS, CodePolicy, FixedCodeTable
from services.otp.limits import CodeLimits
from services.otp.mail import translations
from services.otp.mail.mail import Branding
from services.otp.mail.translations import Translations, check_no_link
from shared.config import Seconds, Settings
from shared.contracts import address
from shared.contracts.codes import MAX_DIGITS, MIN_DIGITS
from shared.contracts.fields import Domain, Id, Locale, Mailbox
from shared.runtime.sealing import check_keys

MAX_LIFETIME_SECONDS = 86_400.0  # NIST SP 800-63A allows a mailed confirmation code a day
# Rows are deleted within a day of their end: one purge notes the end, the rows are kept for 20
# hours (see `store`), and the next purge comes up to this much later.
MAX_PURGE_SECONDS = 2 * 3600.0


Keys = Annotated[
    str,
    Field(
        repr=False,
        description="Of 32 bytes as hex, newest first, separated by commas; a new one goes to the"
        " end of all replicas' lists before it goes to the front of any",
    ),
    AfterValidator(check_keys),
]
Number = Annotated[int, Field(ge=0)]  # 0 is no limit
# The setting is a directory. It is read with the other settings, so that a mistake is reported
# before anything is opened.
Templates = Annotated[InstanceOf[Translations], NoDecode, BeforeValidator(translations.read)]
Product = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=60),
    AfterValidator(address.check_header_text),
    AfterValidator(check_no_link),
]


class OtpSettings(Settings):
    """The settings of the otp service."""

    service: ClassVar[str] = "otp"

    otp_key: Keys
    sealing_key: Keys
    otp_lifetime: Seconds = Field(600.0, le=MAX_LIFETIME_SECONDS, description="Of a code")
    otp_cooldown: Seconds = Field(60.0, le=3600.0, description="Between two mails of one code")
    otp_tries: int = Field(5, ge=1, le=100, description="Guesses a code allows")
    otp_failures: int = Field(
        30, ge=1, le=1000, description="Wrong guesses a recipient has in 24 hours, over all codes"
    )
    otp_digits: int = Field(DIGITS, ge=MIN_DIGITS, le=MAX_DIGITS, description="Of a code")
    otp_recipient_hourly: Number = Field(5, description="Mails with codes to one address")
    otp_recipient_daily: Number = Field(10, description="The same in a day")
    otp_client_hourly: Number = Field(5000, description="For one client")
    # Most clients do not name their user's address: then it is their own.
    otp_ip_hourly: Number = Field(1000, description="Requested from one IP address")
    otp_domain_hourly: Number = Field(5000, description="To one domain")
    otp_total_hourly: Number = Field(20_000, description="In all")
    # One of a million guesses at codes of six digits is right, at any recipients: at a hundredth
    # of that a day, an attack takes a hundred days. The users of a client that mails as many
    # codes as it may mistype far fewer.
    otp_client_failures: Number = Field(
        10_000, description="Wrong guesses a client has in 24 hours, at all recipients"
    )
    # As much as ten recipients have, and a thirtieth of what a client has.
    otp_ip_failures: Number = Field(
        300, description="The same from one IP address, where the client names it"
    )
    otp_sender: Mailbox | None = Field(None, description="From; the sender's default if absent")
    otp_templates: Templates = Field(
        default_factory=translations.shipped,
        validate_default=False,
        repr=False,
        description="A directory of <locale>.toml, mail.txt, mail.html in place of those shipped",
    )
    otp_locale: Locale = Field("en", description="Of mails, where no other is requested or known")
    otp_product: Product | None = Field(None, description="The product that mails name")
    otp_products: Mapping[Id, Product] = Field(
        default_factory=dict, description="The same by client, as a JSON object"
    )
    otp_autofill_domain: Domain | None = Field(
        None, description="Where codes are typed: the text's last line binds them to it"
    )
    otp_test_codes: FixedCodeTable = Field(
        default_factory=dict,
        repr=False,
        description="Addresses whose code is fixed and not mailed until a time, as a JSON object: "
        '{"review@shop.example": {"code": "271828", "until": "2027-01-31T00:00:00Z"}}',
    )
    otp_purge_seconds: Seconds = Field(
        60.0, le=MAX_PURGE_SECONDS, description="Between two purges of ended challenges"
    )

    @model_validator(mode="after")
    def _speaks_its_language(self) -> Self:
        try:
            self.otp_templates.nearest(self.otp_locale)
        except KeyError:
            raise ValueError("OTP_LOCALE must be one that there is a template for") from None
        return self

    def policy(self, key_ids: AbstractSet[str]) -> CodePolicy:
        """Return the limits of a challenge, for codes of the keys with these ids."""
        return CodePolicy(
            lifetime=round(self.otp_lifetime * SECOND_MS),
            cooldown=round(self.otp_cooldown * SECOND_MS),
            tries=self.otp_tries,
            failures=self.otp_failures,
            key_ids=key_ids,
        )

    @property
    def limits(self) -> CodeLimits:
        """The limits on mails, and on failures at all recipients."""
        return CodeLimits(
            self.otp_recipient_hourly,
            self.otp_recipient_daily,
            self.otp_client_hourly,
            self.otp_ip_hourly,
            self.otp_domain_hourly,
            self.otp_total_hourly,
            self.otp_client_failures,
            self.otp_ip_failures,
        )

    @property
    def branding(self) -> Branding:
        """The sender and names of this deployment in mails."""
        return Branding(
            self.otp_sender,
            self.otp_locale,
            self.otp_product,
            self.otp_products,
            self.otp_autofill_domain,
        )
