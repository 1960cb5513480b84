"""The chart: lint, render, Kubernetes' own schemas, and values that are refused."""

import base64
import json
import re
import tarfile
import tomllib

import jsonschema
import kubernetes_validate
import pytest
import yaml

import tools
from tools import CHART, HERE, ROOT, VALUES, helm, one, pod_spec, template, workload

KUBERNETES = ["1.25.0", "1.30.0", "1.35.0"]
CUSTOM = {
    kind: json.loads((HERE / "schemas" / f"{kind.lower()}.json").read_text())
    for kind in ("ServiceMonitor", "PrometheusRule")
}


def test_lint_is_clean():
    said = helm("lint", "--strict", CHART, *(f"--values={path}" for path in [VALUES["nodeport"]])).stdout
    assert "[WARNING]" not in said and "[ERROR]" not in said, said


def test_package_holds_what_rendering_needs(tmp_path):
    helm("package", CHART, "--destination", tmp_path)
    (archive,) = tmp_path.glob("t2gate-*.tgz")
    with tarfile.open(archive) as tar:
        names = set(tar.getnames())
    for name in ("Chart.yaml", "values.yaml", "values.schema.json", "files/alerts.yml", "templates/tests/ready.yaml"):
        assert f"t2gate/{name}" in names, names


@pytest.mark.parametrize("kube", KUBERNETES)
@pytest.mark.parametrize("values", VALUES)
def test_rendered_objects_fit_the_schemas(values, kube):
    for monitoring in (True, False):
        for document in template(values=values, kube=kube, monitoring=monitoring):
            if document["kind"] in CUSTOM:
                assert monitoring, f"{document['kind']} without its API"
                jsonschema.validate(document, CUSTOM[document["kind"]])
            else:
                kubernetes_validate.validate(document, kube.rsplit(".", 1)[0], strict=True)


@pytest.mark.parametrize("values", VALUES)
def test_names_are_unique_and_labels_are_legal(values):
    documents = template(values=values, release="r" * 50)
    identities = [(d["kind"], d["metadata"]["name"]) for d in documents]
    assert len(set(identities)) == len(identities), identities
    for document in documents:
        name = document["metadata"]["name"]
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name), name
        for key, value in document["metadata"]["labels"].items():
            assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", value), (key, value)


@pytest.mark.parametrize("values", VALUES)
def test_every_pod_is_restricted(values):
    """The restricted Pod Security Standard, and a read-only root."""
    documents = template(values=values)
    pods = [workload(documents)["spec"]["template"]["spec"], one(documents, "Pod")["spec"]]
    for spec in pods:
        of_pod = spec["securityContext"]
        assert of_pod["runAsNonRoot"] is True and of_pod["runAsUser"] > 0
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for volume in spec.get("volumes", []):
            assert set(volume) - {"name"} <= {"configMap", "secret", "projected", "emptyDir", "persistentVolumeClaim"}
        for container in spec["containers"]:
            of_container = container["securityContext"]
            assert of_container["allowPrivilegeEscalation"] is False
            assert of_container["readOnlyRootFilesystem"] is True
            assert of_container["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["memory"]


@pytest.mark.parametrize("values", VALUES)
def test_services_and_policies_select_the_pod_and_nothing_else(values):
    documents = template(values=values)
    labels = workload(documents)["spec"]["template"]["metadata"]["labels"]
    test_labels = one(documents, "Pod")["metadata"]["labels"]
    selectors = [d["spec"]["selector"] for d in documents if d["kind"] == "Service"]
    selectors += [d["spec"]["selector"]["matchLabels"] for d in documents if d["kind"] == "PodDisruptionBudget"]
    selectors += [d["spec"]["podSelector"]["matchLabels"] for d in documents if d["kind"] == "NetworkPolicy"]
    selectors.append(workload(documents)["spec"]["selector"]["matchLabels"])
    assert len(selectors) >= 3
    for selector in selectors:
        assert selector.items() <= labels.items(), (selector, labels)
        assert not selector.items() <= test_labels.items(), "the test's pod is taken for a gateway"
    ports = {port["name"] for port in pod_spec(documents)["containers"][0]["ports"]}
    targets = {port["targetPort"] for d in documents if d["kind"] == "Service" for port in d["spec"]["ports"]}
    assert targets == ports == {"s3", "admin"}
    for monitor in [d for d in documents if d["kind"] == "ServiceMonitor"]:
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (service,) = [d for d in documents if d["kind"] == "Service" and wanted <= d["metadata"]["labels"].items()]
        assert monitor["spec"]["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]
        assert monitor["spec"]["namespaceSelector"]["matchNames"] == ["storage"]


def test_the_admin_listener_has_no_address_of_its_own():
    """S3 may face the world; health and metrics, without authentication, never do."""
    documents = template(values="full")
    services = [d["spec"] for d in documents if d["kind"] == "Service"]
    (admin,) = [s for s in services if any(port["targetPort"] == "admin" for port in s["ports"])]
    assert (admin["type"], admin["clusterIP"]) == ("ClusterIP", "None") and len(admin["ports"]) == 1


def test_a_tree_has_one_pod_at_a_time():
    for values, kind in (("defaults", "StatefulSet"), ("existing", "StatefulSet"), ("memory", "Deployment")):
        found = workload(template(values=values))
        assert (found["kind"], found["spec"]["replicas"]) == (kind, 1)
    assert workload(template(values="memory"))["spec"]["strategy"]["type"] == "Recreate"


def test_a_tree_that_is_shared_may_have_several_pods(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps({"replicas": 3, "config": {"backend": {"shared": True}}}))
    found = workload(template("--values", str(file), values="existing"))
    assert (found["kind"], found["spec"]["replicas"]) == ("StatefulSet", 3)


def test_the_volume_is_made_or_is_the_one_named():
    made = workload(template())["spec"]
    (claim,) = made["volumeClaimTemplates"]
    assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
    assert "persistentVolumeClaim" not in str(made["template"]["spec"]["volumes"])

    named = workload(template(values="existing"))["spec"]
    assert "volumeClaimTemplates" not in named
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "files"}} in named["template"]["spec"]["volumes"]
    mounts = named["template"]["spec"]["containers"][0]["volumeMounts"]
    assert {"name": "data", "mountPath": "/data", "subPath": "share/s3"} in mounts


def test_several_backends_have_their_claims_and_their_buckets():
    documents = template(values="several")
    config = configuration(documents)
    given = yaml.safe_load(VALUES["several"].read_text())
    main, archive, scratch, cloud = config["backend"]
    assert main == {"name": "main", "kind": "fs", "root": "/data", "durability": "power-safe"}
    wanted = {key: value for key, value in given["otherBackends"][0].items() if key not in ("existingClaim", "subPath")}
    assert archive == wanted | {"root": "/backends/archive"}
    assert scratch == {"name": "scratch", "kind": "memory", "root": "/backends/scratch"}
    assert cloud == given["otherBackends"][2] | {"root": "/backends/cloud"}
    assert config["bucket"] == given["buckets"]
    spec = pod_spec(documents)
    claim = {"name": "backend-archive", "persistentVolumeClaim": {"claimName": "archive"}}
    assert [volume for volume in spec["volumes"] if volume["name"].startswith("backend-")] == [claim]
    mount = {"name": "backend-archive", "mountPath": "/backends/archive", "subPath": "share/s3"}
    assert [m for m in spec["containers"][0]["volumeMounts"] if m["name"].startswith("backend-")] == [mount]
    # One table, as long as there is one.
    assert configuration(template(values="full"))["backend"] == {"kind": "fs", "root": "/data"}


def volumes(documents):
    return {volume["name"]: volume for volume in pod_spec(documents)["volumes"]}


def test_a_store_has_its_secrets_from_secrets():
    documents = template(values="store")
    google, _archive, cloud = configuration(documents)["backend"]
    assert google["options"] == {"bucket": "store", "credential_path": "/run/t2gate/stores/0/credential_path"}
    assert cloud["options"] == {
        "bucket": "store",
        "region": "eu-central-1",
        "access_key_id": "id",
        "secret_access_key_file": "/run/t2gate/stores/2/secret_access_key",
        "session_token_file": "/run/t2gate/stores/2/session_token",
    }
    assert "secretOptions" not in str(configuration(documents))
    files = {}
    for source in volumes(documents)["stores"]["projected"]["sources"]:
        (item,) = source["secret"]["items"]
        files[item["path"]] = (source["secret"]["name"], item["key"])
    assert files == {
        "0/credential_path": ("google", "service-account.json"),
        "2/secret_access_key": ("s3", "secret"),
        "2/session_token": ("s3", "token"),
    }
    mount = {"name": "stores", "mountPath": "/run/t2gate/stores", "readOnly": True}
    assert mount in pod_spec(documents)["containers"][0]["volumeMounts"]
    for values in ("defaults", "several"):
        assert "stores" not in volumes(template(values=values))


def test_before_a_store_of_no_level_there_is_one_pod_at_a_time(tmp_path):
    """A StatefulSet never runs two; the volume has the key and the certificate that the gateway makes."""
    found = workload(template(values="store"))
    assert (found["kind"], found["spec"]["replicas"]) == ("StatefulSet", 1)
    assert found["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "1Gi"
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps({"replicas": 1, "config": {"backend": {"least_level": "L1"}}}))
    documents = template("--values", str(file), values="distributed")
    found = workload(documents)
    assert (found["kind"], found["spec"]["replicas"]) == ("StatefulSet", 1)
    assert "volumeClaimTemplates" not in found["spec"] and volumes(documents)["data"] == {"name": "data", "emptyDir": {}}


def test_before_a_store_of_level_2_there_are_as_many_pods_as_wanted():
    documents = template(values="distributed")
    found = workload(documents)
    assert (found["kind"], found["spec"]["replicas"]) == ("Deployment", 3)
    assert found["spec"]["strategy"]["type"] == "RollingUpdate"
    assert volumes(documents)["data"] == {"name": "data", "emptyDir": {}}
    assert "persistentVolumeClaim" not in str(found)


def test_only_who_has_a_store_calls_others():
    def egress(values):
        return one(template(values=values), "NetworkPolicy")["spec"]["egress"]

    dns = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    assert egress("full") == []
    assert egress("store") == [dns, {}]
    assert egress("distributed") == [dns, {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]


def test_secrets_are_in_secrets_only():
    documents = template(values="full")
    secret = one(documents, "Secret", "s3-keys")["data"]
    assert base64.b64decode(secret["acme-app"]).decode() == "fedcba9876543210fedcba9876543210"
    assert set(secret) == {"acme-app", "acme-master"}, "a Secret that is there already is not copied"
    tls = one(documents, "Secret", "s3-tls")
    assert tls["type"] == "kubernetes.io/tls" and set(tls["data"]) == {"tls.crt", "tls.key"}
    others = yaml.safe_dump_all(d for d in documents if d["kind"] != "Secret")
    for value in ("fedcba9876543210", "the-master-key", "PRIVATE KEY"):
        assert value not in others
    for values in ("defaults", "existing"):
        assert not [d for d in template(values=values) if d["kind"] == "Secret"]


def test_a_changed_configuration_or_secret_starts_the_pod_anew():
    def annotations(*arguments):
        return workload(template(*arguments, values="nodeport"))["spec"]["template"]["metadata"]["annotations"]

    before = annotations()
    assert annotations("--set", "config.log.level=debug")["checksum/config"] != before["checksum/config"]
    changed = annotations(
        "--set-json",
        'accounts=[{"id":"acme","keys":[{"id":"acme-app","kind":"global","capabilities":["all"],"secret":"another-secret"}]}]',
    )
    assert changed["checksum/secrets"] != before["checksum/secrets"]
    assert changed["checksum/config"] == before["checksum/config"]


def test_the_cluster_waits_for_the_drain():
    for values, sleep, drain in (("defaults", 5, 25), ("full", 3, 10)):
        spec = pod_spec(template(values=values))
        assert spec["terminationGracePeriodSeconds"] > sleep + drain
        assert spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] == sleep
        assert configuration(template(values=values))["limits"]["drain_deadline"] == f"{drain}s"
    assert "lifecycle" not in pod_spec(template(kube="1.29.0"))["containers"][0], "sleep came with 1.30"


def test_the_memory_limit_holds_the_memory_budget_and_what_listings_keep():
    """By default; 100 MiB beside them are for what is no request's."""
    example = tomllib.loads((ROOT / "config.example.toml").read_text())
    budget = example["limits"]["memory_budget"]
    listing_cache = int(example["backend"]["listing_cache"].removesuffix("MiB")) * 2**20
    limit = pod_spec(template())["containers"][0]["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Mi")) * 2**20 >= budget + listing_cache + 100 * 2**20


def test_probes_ask_the_admin_listener():
    documents = template()
    container = pod_spec(documents)["containers"][0]
    paths = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert [probe["path"] for probe in paths.values()] == ["/healthz", "/healthz", "/readyz"]
    assert {probe["port"] for probe in paths.values()} == {"admin"}
    port = configuration(documents)["listen"]["admin_address"].rsplit(":", 1)[1]
    assert {"name": "admin", "containerPort": int(port), "protocol": "TCP"} in container["ports"]


def configuration(documents):
    (config,) = [d for d in documents if d["kind"] == "ConfigMap"]
    return tomllib.loads(config["data"]["t2gate.toml"])


def test_values_arrive_in_the_configuration_as_they_are():
    config = configuration(template(values="full"))
    given = yaml.safe_load(VALUES["full"].read_text())
    for section, keys in given["config"].items():
        assert config[section].items() >= keys.items(), section
    (account,) = config["account"]
    assert account["name"] == 'Acme <the company> "it" & sons'
    for key, wanted in zip(account["key"], given["accounts"][0]["keys"], strict=True):
        assert key.pop("secret_file") == f"/run/t2gate/keys/{wanted['id']}"
        assert key == {name: value for name, value in wanted.items() if name not in ("secret", "existingSecret")}
    assert config["tls"]["certificate"] == "/run/t2gate/tls/tls.crt"


def test_the_own_certificate_is_for_the_service():
    assert configuration(template())["s3"]["base_domains"] == [
        "test-t2gate.storage.svc",
        "test-t2gate.storage.svc.cluster.local",
    ]


def test_the_schema_knows_every_key_of_the_configuration():
    """config.example.toml has every key there is; what the chart does not set itself can be given as a value."""
    example = (ROOT / "config.example.toml").read_text()
    several = "".join(re.findall(r"^#   (.*\n)", example, flags=re.MULTILINE))
    several = tomllib.loads(several[several.index("[[backend]]") :])
    example = tomllib.loads(re.sub(r"^#(?=\S)", "", example, flags=re.MULTILINE))
    schema = json.loads((CHART / "values.schema.json").read_text())
    sections = schema["definitions"]["config"]["properties"]
    of_the_chart = {
        ("tls", "certificate"),
        ("tls", "key"),
        ("limits", "drain_deadline"),
        ("backend", "kind"),
        ("backend", "root"),
    }
    accounts = example.pop("account")
    definitions = schema["definitions"]
    of_pods = {"existingClaim", "subPath", "secretOptions"}
    assert set(definitions["otherBackend"]["properties"]) - of_pods == set(example["backend"]) - {"root"}
    assert {key for entry in several["bucket"] for key in entry} == set(definitions["bucket"]["properties"])
    # Set by the chart as a whole.
    assert set(example.pop("listen")) == {"address", "admin_address"}
    keys = {(section, key) for section, keys in example.items() for key in keys}
    assert {(section, key) for section in sections for key in sections[section]["properties"]} == keys - of_the_chart
    assert {key for account in accounts for key in account} - {"key"} == set(
        schema["definitions"]["account"]["properties"]
    ) - {"keys"}
    given = {key for account in accounts for entry in account["key"] for key in entry}
    assert given - {"secret_file"} == set(schema["definitions"]["key"]["properties"]) - {"existingSecret"}


def test_the_alerts_are_those_of_prometheus():
    rule = one(template(), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((tools.DEPLOY / "prometheus" / "alerts.yml").read_text())


KEY = {"id": "acme-app", "kind": "global", "capabilities": ["all"], "secret": "0123456789abcdef"}


def accounts(**changed):
    key = {name: value for name, value in (KEY | changed).items() if value is not None}
    return json.dumps({"accounts": [{"id": "acme", "keys": [key]}]})


def several_pods(**changed):
    """Two pods before a store, in which everything is right, but for these sections."""
    key = KEY | {"existingSecret": {"name": "a", "key": "b"}}
    del key["secret"]
    right = {
        "replicas": 2,
        "backend": {"kind": "opendal"},
        "config": {"backend": {"service": "s3", "least_level": "L2"}},
        "accounts": [{"id": "acme", "keys": [key]}],
        "tls": {"existingSecret": "a"},
    }
    return json.dumps(right | changed)


def test_several_pods_before_a_store_are_accepted_where_all_is_right(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(several_pods(otherBackends=[{"name": "a", "kind": "opendal", "service": "gcs", "least_level": "L2"}]))
    assert workload(template("--values", file, values=None))["spec"]["replicas"] == 2


REFUSED = {
    "an unknown value": ('{"replica": 2}', "replica"),
    "two pods on a tree of one": ('{"replicas": 2, "persistence": {"existingClaim": "a"}}', "/config"),
    "two pods with a tree each": ('{"replicas": 2, "config": {"backend": {"shared": true}}}', "existingClaim"),
    "two pods that forget": (
        '{"replicas": 2, "config": {"backend": {"shared": true}}, "persistence": {"existingClaim": "a"},'
        ' "backend": {"kind": "memory"}}',
        "/backend/kind",
    ),
    "two pods before a store of no level": (several_pods(config={"backend": {"service": "s3"}}), "least_level"),
    "two pods before a store of too low a level": (
        several_pods(config={"backend": {"service": "s3", "least_level": "L1"}}),
        "/config/backend/least_level",
    ),
    "two pods with a key each": (several_pods(accounts=[]), "/accounts"),
    "two pods with a certificate each": (several_pods(tls={}), "/tls"),
    "two pods and another backend that forgets": (
        several_pods(otherBackends=[{"name": "a", "kind": "memory"}]),
        "/otherBackends/0",
    ),
    "two pods and another store of no level": (
        several_pods(otherBackends=[{"name": "a", "kind": "opendal", "service": "gcs"}]),
        "/otherBackends/0",
    ),
    "a secret of a store as a value": ('{"backend": {"kind": "opendal", "secretOptions": {"password": "hunter2"}},'
        ' "config": {"backend": {"service": "webdav"}}}', "/backend/secretOptions/password"),
    "a secret for no store": ('{"backend": {"secretOptions": {"password": {"name": "a", "key": "b"}}}}', "secretOptions"),
    "an unknown section": ('{"config": {"listen": {"address": "0.0.0.0:1"}}}', "listen"),
    "an unknown key": ('{"config": {"s3": {"dialekt": "aws"}}}', "dialekt"),
    "what the chart sets itself": ('{"config": {"limits": {"drain_deadline": "3s"}}}', "drain_deadline"),
    "a dialect": ('{"config": {"s3": {"dialect": "gcs"}}}', "/config/s3/dialect"),
    "a TLS version": ('{"config": {"tls": {"min_version": "1.1"}}}', "/config/tls/min_version"),
    "a TLS version as a number": ('{"config": {"tls": {"min_version": 1.2}}}', "/config/tls/min_version"),
    "a length of time": ('{"config": {"limits": {"header_timeout": "soon"}}}', "/config/limits/header_timeout"),
    "a number below its bound": ('{"config": {"limits": {"header_bytes": 1}}}', "/config/limits/header_bytes"),
    "a rate": ('{"config": {"rate_limit": {"read": {"rate": -1}}}}', "/config/rate_limit/read/rate"),
    "a host name with a port": ('{"config": {"s3": {"base_domains": ["s3.example.com:443"]}}}', "/base_domains/0"),
    "a backend": ('{"backend": {"kind": "disk"}}', "/backend/kind"),
    "a backend without a claim": ('{"otherBackends": [{"name": "a", "kind": "fs"}]}', "'existingClaim'"),
    "a store without a service": ('{"otherBackends": [{"name": "a", "kind": "opendal"}]}', "'service'"),
    "a store of the chart's own without a service": ('{"backend": {"kind": "opendal"}}', "'backend'"),
    "a store's level": (
        '{"otherBackends": [{"name": "a", "kind": "opendal", "service": "s3", "least_level": "L3"}]}',
        "/otherBackends/0/least_level",
    ),
    "a backend without a name": ('{"otherBackends": [{"kind": "memory"}]}', "'name'"),
    "a backend's name": ('{"otherBackends": [{"name": "A_b", "kind": "memory"}]}', "/otherBackends/0/name"),
    "a backend's limit": (
        '{"otherBackends": [{"name": "a", "kind": "memory", "memory_budget": 5}]}',
        "/otherBackends/0/memory_budget",
    ),
    "a way out of a backend's volume": (
        '{"otherBackends": [{"name": "a", "kind": "fs", "existingClaim": "a", "subPath": "../b"}]}',
        "/otherBackends/0/subPath",
    ),
    "a bucket's pattern": ('{"buckets": [{"name": "Logs", "backend": "a"}]}', "/buckets/0/name"),
    "a bucket without a backend": ('{"buckets": [{"name": "logs"}]}', "'backend'"),
    "a size": ('{"persistence": {"size": "10 GB"}}', "/persistence/size"),
    "a claim's name": ('{"persistence": {"existingClaim": "My Claim"}}', "/persistence/existingClaim"),
    "a way out of the volume": ('{"persistence": {"subPath": "a/../../b"}}', "/persistence/subPath"),
    "a read-only volume": ('{"persistence": {"accessModes": ["ReadOnlyMany"]}}', "/persistence/accessModes/0"),
    "root": ('{"runAsUser": 0}', "/runAsUser"),
    "a port": ('{"service": {"port": 70000}}', "/service/port"),
    "a type of Service": ('{"service": {"type": "ExternalName"}}', "/service/type"),
    "a digest": ('{"image": {"digest": "latest"}}', "/image/digest"),
    "a certificate without key": ('{"tls": {"certificate": "-----BEGIN CERTIFICATE-----"}}', "/tls/key"),
    "a key without certificate": ('{"tls": {"key": "x"}}', "/tls/certificate"),
    "a certificate that is none": ('{"tls": {"certificate": "/etc/tls.crt", "key": "x"}}', "/tls/certificate"),
    "two certificates": (
        '{"tls": {"certificate": "-----BEGIN CERTIFICATE-----", "key": "x", "existingSecret": "a"}}',
        "/tls/existingSecret",
    ),
    "an account without keys": ('{"accounts": [{"id": "acme"}]}', "'keys'"),
    "a key without a secret": (accounts(secret=None), "'secret'"),
    "a key with two secrets": (accounts(existingSecret={"name": "a", "key": "b"}), "/accounts/0/keys/0"),
    "a secret that is too short": (accounts(secret="hunter2"), "/accounts/0/keys/0/secret"),
    "a kind of key": (accounts(kind="admin"), "/accounts/0/keys/0/kind"),
    "a capability": (accounts(capabilities=["readfiles"]), "/accounts/0/keys/0/capabilities/0"),
    "a restricted key without buckets": (accounts(kind="restricted"), "'buckets'"),
    "a global key with buckets": (accounts(buckets=["a"]), "/accounts/0/keys/0/buckets"),
    "an expiry": (accounts(expires="tomorrow"), "/accounts/0/keys/0/expires"),
    "two keys of one id": (json.dumps({"accounts": [{"id": "acme", "keys": [KEY, KEY]}]}), "acme-app"),
    "a budget": ('{"podDisruptionBudget": {"maxUnavailable": 2}}', "/podDisruptionBudget/maxUnavailable"),
    "a drain of no time": ('{"drainSeconds": 0}', "/drainSeconds"),
    "a scrape interval": ('{"serviceMonitor": {"interval": 30}}', "/serviceMonitor/interval"),
    "an amount of memory": ('{"resources": {"limits": {"memory": "lots"}}}', "/resources/limits/memory"),
    "a variable's name": ('{"extraEnv": [{"name": "NOT A NAME"}]}', "/extraEnv/0/name"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_value_is_refused_by_its_name(what, tmp_path):
    values, name = REFUSED[what]
    file = tmp_path / "values.yaml"
    file.write_text(values)
    done = template("--values", file, values=None, check=False)
    assert done.returncode != 0, done.stdout
    assert name in done.stderr, done.stderr
    assert "hunter2" not in done.stderr, "a secret is not told"


def test_notes_say_what_is_unsafe_and_how_to_begin():
    def notes(values):
        arguments = ["--values", VALUES[values], *tools.secret_values(values)]
        said = helm("install", "test", CHART, "--namespace", "storage", "--dry-run=client", *arguments).stdout
        return said.split("NOTES:", 1)[1]

    said = notes("defaults")
    assert "https://test-t2gate.storage.svc:443" in said and "helm --namespace storage test test" in said
    assert "No certificate was given" in said and "No accounts were given" in said and "UNSAFE" not in said
    assert "UNSAFE" in notes("memory")
    assert "exec service/test-t2gate -- /usr/bin/t2gate authority --config /etc/t2gate/t2gate.toml" in said
    assert "No certificate" not in notes("full") and "get service s3" in notes("full")
