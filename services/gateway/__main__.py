"""Run the gateway until SIGTERM."""

import os
import sys

from services.gateway import service
from services.gateway.config import GatewaySettings
from shared import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run(service.run, GatewaySettings, os.environ))
