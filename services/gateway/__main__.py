"""Run the gateway service until SIGTERM; `--help` lists its settings."""

import os
import sys

from services.gateway import service
from services.gateway.config import GatewaySettings
from shared.runtime import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run(service.run, GatewaySettings, os.environ, sys.argv[1:]))
