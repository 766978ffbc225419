"""Run the sender service until SIGTERM; `--help` lists its settings."""

import os
import sys

from services.sender import service
from services.sender.config import SenderSettings
from shared.runtime import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run(service.run, SenderSettings, os.environ, sys.argv[1:]))
