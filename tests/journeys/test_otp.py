"""One code, from the request to the mailbox and back, and nowhere else."""

from pathlib import Path

import pytest

from tests.journeys.stack import Stack
from tests.journeys.user import User

pytestmark = [pytest.mark.journey, pytest.mark.timeout(180)]


async def test_a_code_is_right_once(user: User) -> None:
    """A code comes by mail; a wrong guess does not use it up, and it is right exactly once."""
    issued = await user.ask("POST", "/v1/otp", {"email": "otp@mail.example"})
    code = await user.wait_for_code("otp@mail.example")
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"

    assert issued.status == 202
    assert not await user.verified("otp@mail.example", wrong)
    assert await user.verified("otp@mail.example", f" {code[:3]}-{code[3:]} ")
    assert not await user.verified("otp@mail.example", code)


async def test_guesses_are_counted(user: User) -> None:
    """After five wrong guesses the right code is wrong as well."""
    await user.ask("POST", "/v1/otp", {"email": "guess@mail.example"})
    code = await user.wait_for_code("guess@mail.example")
    wrong = [f"{(int(code) + step) % 1_000_000:06d}" for step in range(1, 6)]

    guesses = [await user.verified("guess@mail.example", each) for each in [*wrong, code]]

    assert not any(guesses)


async def test_a_code_is_for_its_address_only(user: User) -> None:
    """The code of one address verifies no other."""
    await user.ask("POST", "/v1/otp", {"email": "mine@mail.example"})
    code = await user.wait_for_code("mine@mail.example")

    assert not await user.verified("yours@mail.example", code)
    assert await user.verified("mine@mail.example", code)


async def test_a_code_is_written_down_nowhere(stack: Stack, user: User) -> None:
    """No log, database or file of the stack holds an issued code, but for the mailbox itself."""
    await user.ask("POST", "/v1/otp", {"email": "secret@mail.example"})
    code = await user.wait_for_code("secret@mail.example")
    assert await user.verified("secret@mail.example", code)

    mailbox = stack.run_dir / "data" / "mailbox"
    written = [
        path
        for path in stack.run_dir.rglob("*")
        if path.is_file() and mailbox not in path.parents and _holds(path, code)
    ]

    assert written == []


def _holds(path: Path, code: str) -> bool:
    """Tell whether a file has the code as a number of its own, not as a part of a longer one."""
    content = path.read_bytes()
    place = content.find(code.encode())
    while place >= 0:
        around = content[max(place - 1, 0) : place] + content[place + 6 : place + 7]
        if not any(chr(byte).isalnum() or byte == ord(".") for byte in around):
            return True
        place = content.find(code.encode(), place + 1)
    return False
