"""Run the classifier service until SIGTERM; `--help` lists its settings."""

import os
import sys

from services.classifier import service
from services.classifier.config import ClassifierSettings
from shared.runtime import lifecycle

if __name__ == "__main__":
    sys.exit(lifecycle.run(service.run, ClassifierSettings, os.environ, sys.argv[1:]))
