"""`python -m services.classifier`: from the environment to an exit code."""

import os
import sys

from services.classifier import service
from services.classifier.config import ClassifierSettings
from shared import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run(service.run, ClassifierSettings, os.environ))
