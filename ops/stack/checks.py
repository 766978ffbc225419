"""The settings of all services, checked before the stack starts anything."""

import warnings
from collections.abc import Iterable, Iterator

from ops.stack.child import Program
from services.classifier.config import ClassifierSettings
from services.gateway.config import GatewaySettings
from services.otp.config import OtpSettings
from services.sender.config import SenderSettings
from shared.config import Settings
from shared.config.private import SettingsWarning
from shared.errors import ConfigError

_SETTINGS: dict[str, type[Settings]] = {
    each.service: each
    for each in (ClassifierSettings, GatewaySettings, OtpSettings, SenderSettings)
}


def check(programs: Iterable[Program]) -> None:
    """Raise ConfigError with a line for each mistake in the settings of some services."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SettingsWarning)  # each service tells its own
        mistakes = [line for program in programs for line in _mistakes(program)]
    if mistakes:
        raise ConfigError("\n".join(dict.fromkeys(mistakes)))


def _mistakes(program: Program) -> Iterator[str]:
    try:
        _SETTINGS[program.name].load(program.environment)
    except ConfigError as error:
        yield from (f"{program.name}: {line}" for line in str(error).splitlines())
