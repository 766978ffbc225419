"""ops/kubernetes: valid by the schemas of Kubernetes and KEDA, and about the present services."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import yaml
from kubernetes_validate import validate

from ops.credentials import of_containers
from shared import topology
from shared.topology import Owner
from tests.modules import ROOT
from tests.test_settings import KEY, settings_of

FOLDER = ROOT / "ops" / "kubernetes"
VERSIONS = ("1.30", "1.34", "1.37")  # the oldest that is supported by some vendor, and the newest
CUSTOM = "keda.sh/v1alpha1"  # KEDA's own kinds, of which Kubernetes has no schema
OF_KEDA: dict[str, Any] = json.loads((ROOT / "tests" / "keda.json").read_text())
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())


def merged(base: Any, patch: Any) -> Any:  # noqa: ANN401 -- YAML
    """Merge a patch as kustomize does: maps by key, lists of named things by name."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return {**base, **{key: merged(base.get(key), value) for key, value in patch.items()}}
    named = isinstance(patch, list) and all(
        isinstance(each, dict) and "name" in each for each in patch
    )
    if isinstance(base, list) and named:
        ours = {each["name"]: each for each in patch}
        both = [merged(each, ours.pop(each["name"], {})) for each in base]
        return [*both, *ours.values()]
    return patch


def objects() -> Iterator[dict[str, Any]]:
    """Yield all objects; Deployments with the patch of all."""
    patch = yaml.safe_load((FOLDER / "deployment.yaml").read_text())
    del patch["metadata"]
    for name in KUSTOMIZATION["resources"]:
        for each in yaml.safe_load_all((FOLDER / name).read_text()):
            yield merged(each, patch) if each["kind"] == "Deployment" else each


OBJECTS = [*objects()]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    """Return the objects of a kind by name."""
    return {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] == kind}


DEPLOYMENTS = of_kind("Deployment")


def check(thing: dict[str, Any], version: str) -> None:
    """Raise an error for what the schema of an object's kind asks for, or does not know."""
    if thing["apiVersion"] == CUSTOM:
        jsonschema_rs.validate({**OF_KEDA, "$ref": f"#/$defs/{thing['kind']}"}, thing)
    else:
        validate(thing, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "thing", OBJECTS, ids=lambda each: f"{each['kind']} {each['metadata']['name']}"
)
def test_an_object_is_valid(thing: dict[str, Any], version: str) -> None:
    """It has what its schema asks for, and no field that the schema does not know."""
    check(thing, version)


@pytest.mark.parametrize("kind", ["Deployment", "ScaledObject"])
def test_the_schemas_bite(kind: str) -> None:
    """A field with a mistake in its name is found."""
    wrong = merged(of_kind(kind)["sender"], {"spec": {"replica": 1}})

    with pytest.raises(Exception, match="'replica' was unexpected"):
        check(wrong, VERSIONS[-1])


def test_every_service_is_deployed() -> None:
    """Each has a Deployment with probes, limits, and a budget for disruptions."""
    assert DEPLOYMENTS.keys() == of_kind("PodDisruptionBudget").keys() == set(Owner)
    for name, each in DEPLOYMENTS.items():
        (container,) = each["spec"]["template"]["spec"]["containers"]
        assert container["args"][-1] == f"services.{name}"
        assert {"startupProbe", "livenessProbe", "readinessProbe", "resources"} <= container.keys()
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "health" in {port["name"] for port in container["ports"]}


def test_a_sender_may_wait_for_the_final_reply() -> None:
    """A relay has ten minutes for it (RFC 5321 4.5.3.2.6)."""
    waits = {
        name: each["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        for name, each in DEPLOYMENTS.items()
    }

    assert waits == {**dict.fromkeys(Owner, 60), Owner.SENDER: 720}


@pytest.mark.parametrize("service", Owner)
def test_the_settings_of_a_service_are_right(service: Owner) -> None:
    """Its ConfigMap and the secrets of ops.credentials are all that it needs."""
    spec = DEPLOYMENTS[service]["spec"]["template"]["spec"]
    secrets = next(each["secret"] for each in spec["volumes"] if each["name"] == "secrets")
    literals = {each["name"]: each["literals"] for each in KUSTOMIZATION["configMapGenerator"]}
    environment = dict(line.split("=", 1) for line in literals.get(service, []))
    environment |= {each["name"]: each["value"] for each in spec["containers"][0]["env"]}
    environment |= of_containers(lambda _: KEY)[secrets["secretName"]]

    assert settings_of(service).load(environment).service == service


def test_services_scale_by_their_own_queues() -> None:
    """The patterns of KEDA name queues that the service reads, and none of dead letters."""
    declared = {queue.name: queue.owner for queue in topology.queues()}
    for name, each in of_kind("ScaledObject").items():
        spec = each["spec"]
        assert spec["scaleTargetRef"] == {"name": name}
        assert "replicas" not in DEPLOYMENTS[name]["spec"]  # each apply would reset it
        assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
        for trigger in spec["triggers"]:
            pattern = trigger["metadata"]["queueName"]
            found = {queue for queue in declared if re.search(pattern, queue)}
            assert found
            assert {declared[queue] for queue in found} == {name}
            assert not [queue for queue in found if queue.endswith(".dead")]
            assert trigger["authenticationRef"]["name"] in of_kind("TriggerAuthentication")


def test_policies_name_ports_that_there_are() -> None:
    """A policy whose port has no container would shut a service off without an error."""
    ports = {
        each["metadata"]["name"]: {port["name"] for port in container["ports"]}
        for each in DEPLOYMENTS.values()
        for container in each["spec"]["template"]["spec"]["containers"]
    }
    for policy in of_kind("NetworkPolicy").values():
        chosen = policy["spec"]["podSelector"]["matchLabels"].get("app.kubernetes.io/name")
        for rule in policy["spec"].get("ingress", []):
            named = {port["port"] for port in rule["ports"] if isinstance(port["port"], str)}
            for service in [chosen] if chosen else ports:
                assert named <= ports[service]
