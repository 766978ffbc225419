"""Run the scheduler service until SIGTERM; `--help` lists its settings."""

import os
import sys

from services.scheduler import service
from services.scheduler.config import SchedulerSettings
from shared.runtime import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run(service.run, SchedulerSettings, os.environ, sys.argv[1:]))
