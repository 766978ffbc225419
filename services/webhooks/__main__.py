"""Run the webhooks service until SIGTERM; `--help` lists its settings."""

import os
import sys

from services.webhooks import service
from services.webhooks.config import WebhookSettings
from shared.runtime import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run(service.run, WebhookSettings, os.environ, sys.argv[1:]))
