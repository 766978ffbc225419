"""Hooks of schemathesis, which schemathesis.toml names."""

import uuid
from datetime import datetime
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, HookContext

from services.gateway.clients import idempotency
from shared.contracts.clients import NETWORK_FORM, SENDER_FORM
from shared.contracts.fields import DOMAIN_FORM, MAILBOX_FORM

# By the pattern in the document, which is as close as JSON Schema gets to a name that IDNA allows.
FORMATS = {
    MAILBOX_FORM: "idn-email",
    SENDER_FORM: "idn-email",
    DOMAIN_FORM: "idn-hostname",
    NETWORK_FORM: "network",
}
MAX_ADDRESS_CHARS = 254  # RFC 5321 4.5.3.1, errata 1690; with a name before it, it may be longer

OWN_CLIENT = "local"  # of the stack: without its key no other operation can be tried

_used_keys: set[str] = set()

schemathesis.openapi.format("network", st.ip_addresses().map(str))
# The library knows no `formatMinimum`, which the document has for 1970.
schemathesis.openapi.format(
    "date-time",
    st.datetimes(datetime(1970, 1, 2), datetime(9998, 1, 1), timezones=st.timezones()).map(  # noqa: DTZ001
        datetime.isoformat
    ),
)


@schemathesis.hook
def before_load_schema(_: HookContext, document: dict[str, Any]) -> None:
    """Generate addresses, domains and networks of the right form, not by their loose patterns."""
    _name_formats(document)


@schemathesis.hook
def before_call(_: HookContext, case: Case[Any], __: dict[str, Any]) -> None:
    """Replace a valid Idempotency-Key that was used: with another body it is a 422, rightly.

    The id of the client whose key is used comes from a list of clients: it must not be revoked.
    """
    if case.path_parameters and case.path_parameters.get("id") == OWN_CLIENT:
        case.path_parameters["id"] = "another"
    key = case.headers.get(idempotency.HEADER)
    if key is None or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if key in _used_keys:
        case.headers[idempotency.HEADER] = key = str(uuid.uuid4())
    _used_keys.add(key)


def _name_formats(part: object) -> None:
    """Replace each pattern of a schema that stands for a format by the name of the format."""
    if isinstance(part, list):
        for each in part:
            _name_formats(each)
    if isinstance(part, dict):
        if (pattern := part.get("pattern")) in FORMATS:
            del part["pattern"]
            part |= {"format": FORMATS[pattern], "maxLength": MAX_ADDRESS_CHARS}
        for each in part.values():
            _name_formats(each)
