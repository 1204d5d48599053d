"""The files for containers, as far as they can be checked without running one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from conftest import ROOT
from glass_edge.runtime.serving.openapi.document import Bounds, openapi_document

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile.*"))
ROUTES = openapi_document("1.2.3", Bounds(body_bytes=1, images=1, crops=1))["paths"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPLOYMENT, SERVICE = yaml.safe_load_all((ROOT / "docker" / "kubernetes.yaml").read_text())
POD = DEPLOYMENT["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


def instructions(path) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions and their arguments, in order."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line]


CPU = instructions(ROOT / "docker" / "Dockerfile.cpu")
SERVER = CPU[max(i for i, (name, _) in enumerate(CPU) if name == "FROM") :]


def only(name: str) -> str:
    """Return the arguments of the server's only instruction of this name."""
    (found,) = [arguments for each, arguments in SERVER if each == name]
    return found


def option(name: str) -> float:
    arguments = CONTAINER["args"]
    return float(arguments[arguments.index(name) + 1])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
class TestEveryDockerfile:
    def test_copies_every_package(self, path):
        copied = {
            arguments.split()[0]
            for name, arguments in instructions(path)
            if name == "COPY" and not arguments.startswith(("-", "pyproject"))
        }
        assert copied == {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests"}

    def test_installs_extras_that_there_are(self, path):
        (extras,) = re.findall(r"'\.\[(.+?)\]'", path.read_text())
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


class TestTheImage:
    def test_is_made_without_what_builds_it(self):
        assert [arguments for name, arguments in SERVER if name == "COPY"] == [
            "--from=build /opt/venv /opt/venv"
        ]
        assert "RUN" not in dict(SERVER)

    def test_is_not_root_and_says_so_in_numbers(self):
        assert all(int(each) > 0 for each in only("USER").split(":"))

    def test_serves_all_addresses_on_the_port_that_it_names(self):
        program, *options = json.loads(only("ENTRYPOINT"))
        assert program in PROJECT["scripts"]
        assert options == ["--host", "0.0.0.0"]
        assert only("EXPOSE") == "8000"

    def test_writes_only_below_tmp(self):
        assert "GLASS_CACHE=/tmp/glass-edge" in [args for name, args in SERVER if name == "ENV"]

    @pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
    def test_health_is_what_the_server_says(self, status, healthy):
        program, *arguments = json.loads(only("HEALTHCHECK").partition("CMD ")[2])
        assert program == "python"
        asked = []

        class Server(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            arguments[-1] = arguments[-1].replace(":8000", f":{server.server_port}")
            proxies = {"http_proxy": "http://127.0.0.1:1"}
            done = subprocess.run([sys.executable, *arguments], env=proxies, capture_output=True)
            server.shutdown()
        assert (done.returncode == 0) == healthy, done.stderr
        assert asked == ["/v2/health/live"]
        assert asked[0] in ROUTES


class TestTheDeployment:
    def test_runs_as_the_image_does(self):
        context = POD["spec"]["securityContext"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == only("USER")
        assert [port["containerPort"] for port in CONTAINER["ports"]] == [int(only("EXPOSE"))]

    def test_has_no_rights_that_it_does_not_need(self):
        assert POD["spec"]["securityContext"]["runAsNonRoot"] is True
        assert POD["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert POD["spec"]["automountServiceAccountToken"] is False
        assert CONTAINER["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }

    def test_writes_to_a_bounded_folder_and_reads_bundles_from_a_volume(self):
        volumes = {volume["name"]: volume for volume in POD["spec"]["volumes"]}
        mounts = {mount["mountPath"]: mount for mount in CONTAINER["volumeMounts"]}
        assert set(mounts) == {"/tmp", "/bundles"}
        assert volumes[mounts["/tmp"]["name"]]["emptyDir"]["sizeLimit"] == "1Gi"
        assert mounts["/bundles"]["readOnly"] is True
        assert "persistentVolumeClaim" in volumes[mounts["/bundles"]["name"]]
        assert CONTAINER["args"][0].startswith("/bundles/")

    @pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
    def test_probes_ask_what_is_served(self, probe):
        asked = CONTAINER[probe]["httpGet"]
        assert "get" in ROUTES[asked["path"]]
        assert asked["port"] in [port["name"] for port in CONTAINER["ports"]]

    def test_a_server_that_is_not_ready_is_not_killed(self):
        alive, ready = (CONTAINER[each]["httpGet"] for each in ("livenessProbe", "readinessProbe"))
        assert (alive["path"], ready["path"]) == ("/healthz", "/readyz")

    def test_a_server_that_stops_has_the_time_to_end(self):
        allowed = POD["spec"]["terminationGracePeriodSeconds"]
        assert allowed > option("--drain-delay") + option("--grace")

    def test_no_request_comes_while_a_server_stops(self):
        """It is taken out of the service while it still accepts requests."""
        probe = CONTAINER["readinessProbe"]
        noticed = probe["periodSeconds"] * probe["failureThreshold"]
        assert noticed < option("--drain-delay")

    def test_metrics_are_found(self):
        annotations = POD["metadata"]["annotations"]
        assert annotations["prometheus.io/path"] in ROUTES
        assert annotations["prometheus.io/port"] == only("EXPOSE")

    def test_the_service_finds_it(self):
        selector = SERVICE["spec"]["selector"]
        assert selector == DEPLOYMENT["spec"]["selector"]["matchLabels"]
        assert selector.items() <= POD["metadata"]["labels"].items()
        assert [port["targetPort"] for port in SERVICE["spec"]["ports"]] == ["http"]
