"""Settings: defaults, below a file, below the environment, below flags; checked whole, at once."""

from shared.config.settings import (
    BrokerUrl,
    CertificateFile,
    DatabaseUrl,
    Port,
    Seconds,
    Secret,
    SecretFile,
    Settings,
)

__all__ = [
    "BrokerUrl",
    "CertificateFile",
    "DatabaseUrl",
    "Port",
    "Seconds",
    "Secret",
    "SecretFile",
    "Settings",
]
