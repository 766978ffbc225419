"""compose.cluster.yaml: replicas behind the proxy, and a node of three that is killed."""

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from subprocess import CalledProcessError
from typing import Any

import pytest

from shared import topology
from shared.topology import Owner
from tests.containers.compose import Compose, registered, running
from tests.journeys.test_shutdown import insisting
from tests.journeys.user import User
from tests.waiting import until

pytestmark = [pytest.mark.container, pytest.mark.timeout(1200)]

FILES = ("compose.yaml", "compose.cluster.yaml")
SCALE = {"sender": 3, "classifier": 2, "gateway": 2, "otp": 2}
NODES = ("rabbitmq", "rabbitmq-2", "rabbitmq-3")
KILLED = "rabbitmq-2"
MAILS = 300
CALLERS = 4
WITHIN = 300.0  # seconds, on a machine that does much else


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """Start all containers once."""
    with running(tmp_path_factory.mktemp("cluster"), FILES, SCALE) as started:
        yield started


def person(number: int) -> str:
    """Return a recipient of the load."""
    return f"node+{number}@mail.example"


async def hand_over(user: User, numbers: Iterator[int], accepted: list[float]) -> None:
    """Hand over mails, each again and again under one key until it is accepted; note when."""

    async def send(number: int) -> int:
        body = {"to": person(number), "subject": "Hello", "text": "It works."}
        key = {"Idempotency-Key": f"node-{number}"}
        return (await user.ask("POST", "/v1/messages", body, headers=key)).status

    for number in numbers:
        await insisting(partial(send, number), wanted=202)
        accepted.append(time.monotonic())


async def balanced(compose: Compose) -> str:
    """Return what `ops ledger check` prints once the books add up."""
    output = ""

    async def adds_up() -> bool:
        nonlocal output
        check = ("run", "--rm", "--no-deps", "-T", "topology", "ops", "ledger", "check")
        try:
            output = await asyncio.to_thread(compose.run, *check)
        except CalledProcessError as error:
            output = error.output.decode()
        return "the books add up" in output and " 0 waiting " in output

    try:
        await until(adds_up, WITHIN)
    except TimeoutError:
        pytest.fail(f"the books do not add up:\n{output}")
    return output


def test_each_service_has_its_replicas(compose: Compose) -> None:
    """`--scale` works for all of them, and the proxy has one port for the gateways."""
    listed = compose.run("ps", "--format", "{{.Service}} {{.Health}}").split("\n")
    wanted = {owner.value: SCALE.get(owner, 1) for owner in Owner}

    assert {name: listed.count(f"{name} healthy") for name in wanted} == wanted
    assert [listed.count(f"{node} healthy") for node in NODES] == [1, 1, 1]


def test_every_queue_is_on_three_nodes(compose: Compose) -> None:
    """The topology waits until the cluster is whole, and makes no queue that one node has alone."""
    command = (
        "rabbitmqctl",
        "--quiet",
        "--formatter=json",
        "list_queues",
        "name",
        "type",
        "members",
    )
    queues: list[dict[str, Any]] = json.loads(compose.execute("rabbitmq", *command))
    declared = {queue.name for queue in topology.queues()}

    assert {each["name"] for each in queues} == declared
    assert {(each["type"], len(each["members"])) for each in queues} == {("quorum", 3)}


async def test_a_node_is_killed_under_load(
    compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    """No mail is lost or sent twice, and the books add up; the time of the recovery is printed."""
    numbers, accepted = iter(range(MAILS)), list[float]()
    async with User.of(await registered(compose, "cluster")) as user:
        await hand_over(user, itertools.islice(numbers, MAILS // 3), accepted)
        callers = [asyncio.create_task(hand_over(user, numbers, accepted)) for _ in range(CALLERS)]
        killed = time.monotonic()
        await asyncio.to_thread(compose.run, "kill", KILLED)
        await asyncio.gather(*callers)
        counts = [len(await user.wait_for_mails(person(n), within=WITHIN)) for n in range(MAILS)]
        output = await balanced(compose)
        await asyncio.to_thread(compose.run, "start", KILLED)

    moments = [killed, *(each for each in accepted if each > killed)]
    pause = max(later - earlier for earlier, later in itertools.pairwise(moments))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{KILLED} killed after {MAILS - len(moments) + 1} of {MAILS} accepted mails; the"
            f" longest pause between two of the others was {pause:.1f} s\n{output}"
        )
    assert set(counts) == {1}
