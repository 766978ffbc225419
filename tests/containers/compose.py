"""`docker compose up --build`, as a user runs it, with ports and volumes of its own."""

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
from testcontainers.compose import DockerCompose

from ops import ports
from ops.docker import docker

_TREE = Path(__file__).parents[2]
_PUBLISHED = (
    *("INBOUND_PUBLISHED", "INBOUND_SUBMISSION_PUBLISHED", "INBOUND_SUBMISSION_TLS_PUBLISHED"),
)
_PORTS = (
    *("MAILBOX_PORT", "CONSOLE_PORT", "SMTP_PORT", "RABBITMQ_PORT"),
    *("RABBITMQ_MANAGEMENT_PORT", "PROMETHEUS_PORT"),
)


class Compose:
    """The containers of one project, made from an image of their own.

    `first_start` is what Compose says beside its output at the first `up`, `environ` the
    environment in which `docker compose` is about this project.
    """

    def __init__(
        self,
        project: DockerCompose,
        image: str,
        environ: Mapping[str, str],
        scale: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.image = image
        self._scale = [f"--scale={service}={count}" for service, count in scale.items()]
        # The service that has the port of the API.
        self.door = "proxy" if scale else "gateway"
        self.environ = environ
        self.first_start = ""
        self._project = project

    def build_and_start(self) -> None:
        """Build the image and start the project for the first time."""
        whole = [*self._project.compose_command_property, "up", "--build", "--wait", *self._scale]
        self.first_start = self._project._run_command(whole).stderr.decode()

    def up(self) -> None:
        """Start all containers, and return when they are healthy."""
        self._project.start()

    def down(self) -> None:
        """Remove the containers; the volumes stay."""
        self.run("down")

    def run(self, *command: str) -> str:
        """Run a command of Compose; return its output. Raises CalledProcessError."""
        whole = [*self._project.compose_command_property, *command]
        return self._project._run_command(whole).stdout.decode()

    def execute(self, service: str, *command: str) -> str:
        """Run a command in a service's container; return its output."""
        said, _, _ = self._project.exec_in_container(list(command), service)
        return said

    def containers(self) -> dict[str, str]:
        """Return the state of each container, with its exit code if it has ended."""
        return {
            str(each.Service): f"{each.State} {each.ExitCode}"
            for each in self._project.get_containers(include_all=True)
        }

    def place(self, service: str, port: int) -> str:
        """Return host and port at which a port of a service is published."""
        host, bound = self._project.get_service_host_and_port(service, port)
        return f"{host}:{bound}"

    def url(self, service: str, port: int) -> str:
        """Return the URL of a published port of a service."""
        return f"http://{self.place(service, port)}"


@contextmanager
def running(
    folder: Path,
    files: Sequence[str] = ("compose.yaml",),
    scale: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[Compose]:
    """Run the project for the length of the block, then remove all of it.

    `scale` is the number of replicas by service; behind the proxy the gateways have no ports.
    """
    project = f"postrider-test-{secrets.token_hex(4)}"
    settings = dict(zip(_PORTS, map(str, ports.unused(len(_PORTS))), strict=True))
    first = _two_unused()
    settings |= {
        name: f"127.0.0.1:{port}"
        for name, port in zip(_PUBLISHED, ports.unused(len(_PUBLISHED)), strict=True)
    }
    gateway = str(first) if scale else f"{first}-{first + 1}"
    settings |= {"GATEWAY_PORT": gateway, "COMPOSE_PROJECT_NAME": project}
    settings["POSTRIDER_IMAGE"] = project
    environment = folder / "environment"
    environment.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    whole = {**os.environ, **settings}
    started = DockerCompose(_TREE, compose_file_name=[*files], env_file=str(environment))
    compose = Compose(started, project, whole, scale)
    try:
        compose.build_and_start()
        yield compose
    finally:
        compose.run("down", "--volumes")
        docker("image", "rm", "--force", project, *([f"{project}-proxy"] if scale else []))


def _two_unused() -> int:
    """Return a free port whose next one is free as well."""
    return next(port for port in ports.unused(100) if ports.is_free(port + 1))


async def registered(compose: Compose, client: str) -> dict[str, Any]:
    """Register a client as docs/containers.md says; return its addresses and key."""
    token = compose.execute("gateway", "cat", "/run/secrets/GATEWAY_ADMIN_TOKEN")
    gateway = compose.url(compose.door, 8080)
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{gateway}/v1/clients", json={"id": client}) as response,
    ):
        key = (await response.json())["api_key"]
    return {"client_key": key, **addresses(compose)}


def addresses(compose: Compose) -> dict[str, Any]:
    """Return the present URLs of gateway and mailbox."""
    return {
        "gateway_url": compose.url(compose.door, 8080),
        "mailbox_url": compose.url("simulator", 8025),
    }
