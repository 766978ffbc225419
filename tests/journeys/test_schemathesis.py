"""schemathesis, as the file beside this one sets it up, against a whole stack."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.gateway.api import openapi
from services.gateway.app import OPERATIONS
from tests.journeys.stack import fresh_environ, running
from tests.modules import ROOT

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]

EXAMPLES = 10  # of each operation, in each of the phases that generate them
SCHEMATHESIS_SECONDS = 480.0


def test_schemathesis_finds_nothing(run_directory: Path) -> None:
    """Every answer to generated requests is one that the OpenAPI document describes.

    The checks are all that there are: also that wrong requests are refused, that right ones are
    not, that no operation answers without its key, and that no other method exists.
    """
    directory = run_directory / "schemathesis"
    # An example of the document waits for outcomes, and some generated recipients have none soon.
    environ = {**fresh_environ(directory), "GATEWAY_MAX_WAIT": "1"}
    with running(directory, environ) as stack:
        record = stack.record
        keys = {"CLIENT_KEY": record["client_key"], "ADMIN_TOKEN": record["admin_token"]}
        document = f"{record['gateway_url']}/v1/openapi.json"
        run = subprocess.run(  # noqa: S603 -- a program of our environment
            (
                Path(sys.executable).with_name("st"),
                "--config-file=tests/journeys/schemathesis.toml",
                "run",
                document,
                f"--max-examples={EXAMPLES}",
                "--seed=1",
                "--no-color",
            ),
            cwd=ROOT,
            env={**os.environ, **keys, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=SCHEMATHESIS_SECONDS,
            check=False,
        )

    operations = sum(map(len, openapi.document(OPERATIONS)["paths"].values()))
    assert run.returncode == 0, run.stdout
    # All but the one that serves the document.
    assert f"Tested: {operations - 1}" in run.stdout
