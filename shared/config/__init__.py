"""Settings: defaults, below a file, below the environment, below flags; checked whole, at once."""

from shared.config.settings import DatabaseUrl, Port, Seconds, Secret, Settings

__all__ = ["DatabaseUrl", "Port", "Seconds", "Secret", "Settings"]
