"""The Kubernetes manifests as `kubectl kustomize` renders them: valid, complete, and true to the code."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate  # has no types
import pytest
import yaml

from shared import __version__
from shared.settings import PREFIX, Settings
from shared.topology import topology

Object = dict[str, Any]

KUBERNETES = ("1.29", "1.37")  # the oldest and the newest whose schemas every object is held against
PLACES = ("base", "overlays/kind", "overlays/production")
MIGRATE = "migrate"
POLICY_FILE = "/etc/forebay/policy.toml"
MOST_WRITERS = 2  # each adds one transaction per tick (architecture, promise 2)


class Place:
    """Everything that one kustomization applies."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.objects: list[Object] = list(yaml.safe_load_all(text))

    def of(self, kind: str) -> dict[str, Object]:
        """All objects of a kind, by name."""
        return {found["metadata"]["name"]: found for found in self.objects if found["kind"] == kind}

    @property
    def pods(self) -> dict[str, Object]:
        """The pod specs that run this project's code, by the name of their Deployment or Job."""
        owners = self.of("Deployment") | self.of("Job")
        return {name: owner["spec"]["template"]["spec"] for name, owner in owners.items()}

    def environment(self, name: str) -> dict[str, Any]:
        """Variables of a pod: a plain value as it is, one taken from a Secret as that reference."""
        (container,) = self.pods[name]["containers"]
        found: dict[str, Any] = {}
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                found |= self.of("ConfigMap")[source["configMapRef"]["name"]]["data"]
        for variable in container.get("env", []):
            found[variable["name"]] = variable.get("value") or variable["valueFrom"]["secretKeyRef"]
        return found


@cache
def rendered(root: Path, place: str) -> Place:
    """One kustomization, rendered once per run; without kubectl there is nothing to check."""
    kubectl = shutil.which("kubectl") or pytest.skip("kubectl is not installed")
    command = [kubectl, "kustomize", str(root / "k8s" / place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # nothing in it is input
    assert done.returncode == 0, done.stderr
    return Place(done.stdout)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, root: Path) -> Place:
    return rendered(root, request.param)


def work_queues(root: Path) -> set[str]:
    """The queues that services work off, for the policy's tiers."""
    policy = tomllib.loads((root / "infra/policy.toml").read_text())
    queues = topology(policy["tiers"]).queues
    return {queue.name for queue in queues if not queue.dead_letters and queue.returns is None}


def triggers(place: Place, kind: str) -> Iterator[tuple[str, Object]]:
    """Each trigger of a kind with the name of the Deployment it scales."""
    for scaler in place.of("ScaledObject").values():
        for trigger in scaler["spec"]["triggers"]:
            if trigger["type"] == kind:
                yield scaler["spec"]["scaleTargetRef"]["name"], trigger


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_valid(place: Place, version: str) -> None:
    native = [found for found in place.objects if not found["apiVersion"].startswith("keda.sh/")]
    assert native
    for found in native:
        kubernetes_validate.validate(found, version, strict=True)


def test_every_service_has_a_deployment_and_a_scaler(place: Place, services: frozenset[str]) -> None:
    assert set(place.of("Deployment")) == services
    assert set(place.of("ScaledObject")) == services


def test_images_name_the_service(place: Place) -> None:
    for name, pod in place.pods.items():
        service = "persistence" if name == MIGRATE else name
        assert [c["image"].rpartition(":")[0].rpartition("forebay/")[2] for c in pod["containers"]] == [service]


def test_the_migration_runs_before_it_is_needed_again(place: Place) -> None:
    job = place.of("Job")[MIGRATE]["spec"]
    assert job["template"]["spec"]["containers"][0]["command"] == ["python", "-m", "shared.database"]
    assert job["ttlSecondsAfterFinished"] > 0, "a finished Job would stand in the way of the next release"


def test_settings_exist(place: Place, variables: frozenset[str]) -> None:
    named = set(re.findall(PREFIX + "[A-Z0-9_]+", place.text))
    assert named
    assert named <= variables


def test_the_policy_is_the_projects_and_mounted_where_it_is_looked_for(place: Place, root: Path) -> None:
    for name, pod in place.pods.items():
        (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "policy")
        (mount,) = (mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "policy")
        data = place.of("ConfigMap")[volume["configMap"]["name"]]["data"]
        assert data == {"policy.toml": (root / "infra/policy.toml").read_text()}
        assert place.environment(name)["FOREBAY_POLICY_FILE"] == f"{mount['mountPath']}/policy.toml" == POLICY_FILE


def test_only_services_that_need_the_database_are_told_where_it_is(place: Place, root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    users = {name for name, needs in extras.items() if any(re.match(r"forebay\[.*\bdatabase\b", n) for n in needs)}
    told = {name for name in place.pods if "FOREBAY_POSTGRES_DSN" in place.environment(name)}
    assert told == (users & set(place.pods)) | {MIGRATE}


def test_only_ingest_signs_and_only_inference_has_provider_keys(place: Place) -> None:
    signs = {name for name in place.pods if "FOREBAY_ID_SECRET" in place.environment(name)}
    pays = {name for name, pod in place.pods.items() if "forebay-providers" in str(pod)}
    assert (signs, pays) == ({"ingest"}, {"inference"})


def test_the_cache_finds_embeddings_at_inference(place: Place) -> None:
    told = {
        name: place.environment(name)["FOREBAY_EMBEDDINGS_URL"]
        for name in place.pods
        if "FOREBAY_EMBEDDINGS_URL" in place.environment(name)
    }
    assert told == {"cache": "http://inference"}
    assert place.of("Service")["inference"]["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}]


def test_secrets_have_what_is_taken_from_them(root: Path) -> None:
    place = rendered(root, "overlays/kind")
    given = {(name, key) for name, secret in place.of("Secret").items() for key in secret["stringData"]}
    references = [v for name in place.pods for v in place.environment(name).values() if isinstance(v, dict)]
    authentication = [t for auth in place.of("TriggerAuthentication").values() for t in auth["spec"]["secretTargetRef"]]
    taken = {(reference["name"], reference["key"]) for reference in references + authentication}
    assert taken
    assert taken <= given
    assert "Secret" not in {found["kind"] for found in rendered(root, "base").objects}


def test_pods_have_time_to_finish_their_work(place: Place) -> None:
    for name in place.of("Deployment"):
        pod = place.pods[name]
        configured = float(place.environment(name).get("FOREBAY_SHUTDOWN_S", 0))
        hook = (
            pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
        )
        needed = max(configured, Settings.model_fields["shutdown_s"].default) + float(hook[1])
        assert pod["terminationGracePeriodSeconds"] > needed, name


def test_pods_run_with_no_rights(place: Place) -> None:
    for name, pod in place.pods.items():
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }, name


def test_services_are_probed_and_sized(place: Place) -> None:
    probes = {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    for name in place.of("Deployment"):
        (container,) = place.pods[name]["containers"]
        assert container["ports"] == [{"name": "http", "containerPort": Settings.model_fields["http_port"].default}], (
            name
        )
        for probe, path in probes.items():
            assert container[probe]["httpGet"] == {"path": path, "port": "http"}, (name, probe)
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}, name
        assert set(container["resources"]["limits"]) == {"memory"}, name


def test_metrics_are_announced(place: Place) -> None:
    for name, deployment in place.of("Deployment").items():
        assert deployment["spec"]["template"]["metadata"]["annotations"] == {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(Settings.model_fields["http_port"].default),
            "prometheus.io/path": "/metrics",
        }, name


def test_selectors_find_their_own_pods_only(place: Place) -> None:
    labels = {name: d["spec"]["template"]["metadata"]["labels"] for name, d in place.of("Deployment").items()}
    labels |= {name: s["spec"]["template"]["metadata"]["labels"] for name, s in place.of("StatefulSet").items()}
    selectors = [(n, d["spec"]["selector"]["matchLabels"]) for n, d in place.of("Deployment").items()]
    selectors += [(n, b["spec"]["selector"]["matchLabels"]) for n, b in place.of("PodDisruptionBudget").items()]
    selectors += [(n, s["spec"]["selector"]) for n, s in place.of("Service").items()]
    for name, deployment in place.of("Deployment").items():
        spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        selectors += [(name, constraint["labelSelector"]["matchLabels"]) for constraint in spread]
    for name, selector in selectors:
        assert [owner for owner, own in labels.items() if selector.items() <= own.items()] == [name]


def test_scalers_have_the_number_of_replicas_to_themselves(place: Place) -> None:
    for name, scaler in place.of("ScaledObject").items():
        assert scaler["apiVersion"] == "keda.sh/v1alpha1"
        assert scaler["spec"]["scaleTargetRef"] == {"name": name}
        assert "replicas" not in place.of("Deployment")[name]["spec"]
        assert 1 <= scaler["spec"]["minReplicaCount"] <= scaler["spec"]["maxReplicaCount"]
    assert place.of("ScaledObject")["persistence"]["spec"]["maxReplicaCount"] <= MOST_WRITERS


def test_queue_triggers_can_ask_the_broker(place: Place) -> None:
    authentications = place.of("TriggerAuthentication")
    for name, trigger in triggers(place, "rabbitmq"):
        assert trigger["metadata"].keys() == {"protocol", "mode", "value", "queueName"}, name
        assert (trigger["metadata"]["protocol"], trigger["metadata"]["mode"]) == ("amqp", "QueueLength"), name
        assert int(trigger["metadata"]["value"]) > 0, name
        parameters = [
            t["parameter"] for t in authentications[trigger["authenticationRef"]["name"]]["spec"]["secretTargetRef"]
        ]
        assert parameters == ["host"], name


def test_every_queue_scales_the_service_that_works_it_off(place: Place, root: Path) -> None:
    scaled = [(name, trigger["metadata"]["queueName"]) for name, trigger in triggers(place, "rabbitmq")]
    assert sorted(scaled) == sorted((queue.partition(".")[0], queue) for queue in work_queues(root))


def test_ingest_also_scales_with_its_http_work(place: Place) -> None:
    ((name, trigger),) = triggers(place, "cpu")
    assert (name, trigger["metricType"]) == ("ingest", "Utilization")


def test_production_survives_the_loss_of_a_node(root: Path, services: frozenset[str]) -> None:
    place = rendered(root, "overlays/production")
    assert set(place.of("PodDisruptionBudget")) == services
    for name, scaler in place.of("ScaledObject").items():
        assert scaler["spec"]["minReplicaCount"] > 1, name


def test_production_runs_this_release(root: Path) -> None:
    images = {
        container["image"]
        for pod in rendered(root, "overlays/production").pods.values()
        for container in pod["containers"]
    }
    assert {image.rpartition(":")[2] for image in images} == {__version__}
    assert [image for image in images if image.startswith("forebay/")] == []
