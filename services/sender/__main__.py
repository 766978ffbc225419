"""Run the sender: `python -m services.sender`, its settings from the environment."""

import os
import sys

from services.sender import service
from services.sender.config import SenderSettings
from shared import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run(service.run, SenderSettings, os.environ))
