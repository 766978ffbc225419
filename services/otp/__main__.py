"""Run the otp service until SIGTERM; `--help` lists its settings."""

import os
import sys

from services.otp import service
from services.otp.config import OtpSettings
from shared.runtime import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run(service.run, OtpSettings, os.environ, sys.argv[1:]))
