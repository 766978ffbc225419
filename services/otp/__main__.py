"""`python -m services.otp`: from the environment to an exit code."""

import os
import sys

from services.otp import service
from services.otp.config import OtpSettings
from shared import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run(service.run, OtpSettings, os.environ))
