"""Run the console until SIGTERM; `--help` lists its settings."""

import os
import sys

from services.console import service
from services.console.config import ConsoleSettings
from shared.runtime import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run(service.run, ConsoleSettings, os.environ, sys.argv[1:]))
