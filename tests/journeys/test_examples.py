"""The programs of docs/examples.md, run as they stand."""

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.journeys.stack import Stack
from tests.journeys.user import User
from tests.pages import blocks

pytestmark = [pytest.mark.journey, pytest.mark.timeout(180)]

# By the file of a program: its language on the page, what runs it, and who gets its mails.
PROGRAMS = {
    "shop.py": ("python", sys.executable, "ivy@mail.example"),
    "shop.mjs": ("javascript", shutil.which("node"), "lea@mail.example"),
}


async def run(stack: Stack, program: str, path: Path) -> tuple[str, str]:
    """Run a program of the page; return its output and its errors."""
    keys = {"KEY": stack.record["client_key"], "POSTRIDER": stack.record["gateway_url"]}
    process = await asyncio.create_subprocess_exec(
        program, path, env={**os.environ, **keys}, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(60):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return output.decode(), errors.decode()


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_program_prints_what_the_page_shows(
    stack: Stack, user: User, tmp_path: Path, name: str
) -> None:
    """A program sends its mails once, however often it runs, and prints what the page shows."""
    language, program, recipient = PROGRAMS[name]
    if program is None:
        pytest.skip("there is no node (apt install nodejs)")
    (block,) = (each for each in blocks("docs/examples.md") if each.language == language)
    path = tmp_path / name
    path.write_text(block.text)

    first = await run(stack, program, path)
    again = await run(stack, program, path)

    assert first == (block.output, "")
    assert again == first
    # The order, the news and the code.
    assert len(await user.wait_for_mails(recipient, 3)) == 3
