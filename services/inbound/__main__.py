"""Run the inbound service until SIGTERM; `--help` lists its settings."""

import os
import sys

from services.inbound import service
from services.inbound.config import InboundSettings
from shared.runtime import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run(service.run, InboundSettings, os.environ, sys.argv[1:]))
