"""Settings from defaults, a file, the environment and flags: checked whole, at once."""

from shared.config.settings import (
    BrokerUrl,
    CertificateFile,
    DatabaseUrl,
    KeyText,
    Port,
    Seconds,
    Secret,
    SecretFile,
    Settings,
)
from shared.config.sources import SettingsWarning, check_private
