"""The Kubernetes manifests of deploy/ fit each other and the server."""

from typing import Any

import yaml

from tests.deploy_files import (
    COMPOSE,
    CONTAINER,
    DEPLOY,
    FLAGS,
    KUBERNETES,
    POD,
    documents,
    read,
    read_model_config,
)


def test_kustomization_lists_every_manifest():
    listed = documents(DEPLOY / "kustomization.yaml")[0]["resources"]
    assert {DEPLOY / name for name in listed} == set(
        (DEPLOY / "kubernetes").glob("*.yaml")
    )


def test_pods_run_without_rights():
    security = CONTAINER["securityContext"]
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["runAsUser"] > 0
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert POD["automountServiceAccountToken"] is False
    assert all(mount["readOnly"] for mount in CONTAINER["volumeMounts"])
    serving = COMPOSE["services"]["serving"]
    assert serving["read_only"] is True
    assert serving["user"] == "10001:10001"
    assert serving["cap_drop"] == ["ALL"]
    assert all(volume.endswith(":ro") for volume in serving["volumes"])
    assert "ports" not in serving, "it is reached through the proxy only"


def test_a_pod_is_ready_when_its_model_is():
    model = read_model_config("config/models.config")
    status = {"path": f"/v1/models/{model.name}", "port": "rest"}
    assert CONTAINER["startupProbe"]["httpGet"] == status
    assert CONTAINER["readinessProbe"]["httpGet"] == status
    assert CONTAINER["livenessProbe"]["tcpSocket"] == {"port": "grpc"}
    start = CONTAINER["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 120


def test_a_pod_answers_what_it_accepted_before_it_goes():
    command, seconds = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    longest = int(FLAGS["rest_api_timeout_in_ms"]) / 1000
    assert longest < int(seconds) < POD["terminationGracePeriodSeconds"]
    # The server handles no SIGTERM, so that it must not be process 1.
    assert POD["shareProcessNamespace"] is True
    assert COMPOSE["services"]["serving"]["init"] is True
    proxy = COMPOSE["services"]["proxy"]
    assert int(proxy["stop_grace_period"].removesuffix("s")) > longest
    assert "serving" in proxy["depends_on"], "so that it is stopped first"


def test_every_selector_finds_the_pods():
    deployment = KUBERNETES["Deployment", "kbert-serving"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    budget = KUBERNETES["PodDisruptionBudget", "kbert-serving"]["spec"]
    policy = KUBERNETES["NetworkPolicy", "kbert-serving"]["spec"]
    selectors = [
        deployment["selector"]["matchLabels"],
        budget["selector"]["matchLabels"],
        policy["podSelector"]["matchLabels"],
        POD["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        *(
            entry["spec"]["selector"]
            for (kind, _), entry in KUBERNETES.items()
            if kind == "Service"
        ),
    ]
    assert len(selectors) == 6
    assert all(selector == labels for selector in selectors)


def test_services_name_ports_that_the_pods_have():
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {"grpc": int(FLAGS["port"]), "rest": int(FLAGS["rest_api_port"])}
    services = [entry for (kind, _), entry in KUBERNETES.items() if kind == "Service"]
    for service in services:
        named = {port["targetPort"]: port["port"] for port in service["spec"]["ports"]}
        assert named == ports
    headless = KUBERNETES["Service", "kbert-serving-pods"]
    assert headless["spec"]["clusterIP"] == "None"
    rules = KUBERNETES["Ingress", "kbert-serving"]["spec"]["rules"]
    backends = [path["backend"]["service"] for path in rules[0]["http"]["paths"]]
    assert all(
        backend == {"name": "kbert-serving", "port": {"name": "rest"}}
        for backend in backends
    )


def test_autoscaler_scales_the_deployment():
    spec = KUBERNETES["HorizontalPodAutoscaler", "kbert-serving"]["spec"]
    kind, name = spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]
    assert (kind, name) in KUBERNETES
    assert 2 <= spec["minReplicas"] < spec["maxReplicas"]
    deployment = KUBERNETES[kind, name]
    assert "replicas" not in deployment["spec"], "each apply would reset the number"
    assert "cpu" in CONTAINER["resources"]["requests"], "utilization is a share of it"


def test_volume_is_the_one_that_pods_and_upload_use():
    claims = [POD, documents(DEPLOY / "kubernetes/upload/pod.yaml")[0]["spec"]]
    for spec in claims:
        volume = next(
            volume for volume in spec["volumes"] if volume["name"] == "models"
        )
        claim = volume["persistentVolumeClaim"]["claimName"]
        assert ("PersistentVolumeClaim", claim) in KUBERNETES


def test_model_image_takes_the_volume_away():
    """The JSON patches name what they remove by its place in a list."""
    component = documents(DEPLOY / "model_image/kustomization.yaml")[0]
    assert component["kind"] == "Component"
    assert "# components: [model_image]\n" in read("kustomization.yaml")
    patch, claim = component["patches"]
    deployment = KUBERNETES["Deployment", "kbert-serving"]
    for step in yaml.safe_load(patch["patch"]):
        *parents, last = step["path"].strip("/").split("/")
        target: Any = deployment
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target[part]
        if step["op"] == "test":
            assert target[last] == step["value"] == "models"
        else:
            assert target[int(last)]["name"] == "models"
    assert ("PersistentVolumeClaim", claim["target"]["name"]) in KUBERNETES
    assert component["images"][0]["name"] == "tensorflow/serving"
