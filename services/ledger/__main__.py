"""Run the ledger service until SIGTERM; `--help` lists its settings."""

import os
import sys

from services.ledger import service
from services.ledger.config import LedgerSettings
from shared.runtime import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run(service.run, LedgerSettings, os.environ, sys.argv[1:]))
