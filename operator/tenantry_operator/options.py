"""The command line of ``tenantry operator``, and what it says of the platform."""

import argparse
from pathlib import Path

from tenantry_operator.kube.transport import WRITES_IN_FLIGHT
from tenantry_operator.plan.desired import MetricsSource, Platform, split_image
from tenantry_operator.plan.exposure import Exposure, Gateway, Way
from tenantry_operator.scaling.capacity import Settings


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="tenantry operator", description="Reconcile Tenants into namespaces, keys and endpoints."
    )
    add = options.add_argument
    add("--namespace", default="tenantry-system", help="the platform's own namespace: Lease, credentials (%(default)s)")
    add("--kubeconfig", type=Path, help="default: $KUBECONFIG, the pod's service account, ~/.kube/config")
    add("--chart", type=Path, default=Path("/usr/share/tenantry/charts/tenant"), help="the tenant chart (%(default)s)")
    add("--tenant-image", help="image of the tenants' pods, with tag or digest")
    add("--tenant-image-pull-policy", default="IfNotPresent", choices=["Always", "IfNotPresent", "Never"])
    add(
        "--public-url-template",
        default="http://127.0.0.1:{nodePort}/v1",
        help="endpoint of tenants with a node port; {nodePort}, {tenant} and {namespace} are filled in (%(default)s)",
    )
    add("--expose", type=Way, default=Way.NONE, choices=list(Way), help="how tenants are reached from outside")
    add("--gateway", type=_gateway, metavar="NAMESPACE/NAME[/LISTENER]", help="the Gateway of all tenants")
    add("--gateway-url", default="", help="endpoint of tenants behind it; {tenant} is filled in")
    add("--forwarding-namespace", action="append", default=[], help="of pods that forward requests to tenants")
    add("--ingress-class", default="", help="ingressClassName of the tenants' Ingresses")
    add("--ingress-annotation", type=_annotation, action="append", default=[], metavar="NAME=VALUE")
    add("--ingress-tls-secret", default="", help="Secret in a tenant's namespace with its Ingress' certificate")
    add("--tenant-role", default="tenantry-operator-tenant", help="ClusterRole for our work in tenant namespaces")
    add("--service-account", default="tenantry-operator", help="our own ServiceAccount, in --namespace")
    add(
        "--interruption-queue-url",
        default="",
        help="SQS queue with EventBridge's events about instances; without one, what Nodes and Karpenter say must do",
    )
    add(
        "--eviction-limit",
        type=float,
        default=300.0,
        help="seconds for which evictions of a tenant's pod are put off at most, if the webhook is there (%(default)s)",
    )
    add("--lease-name", default="tenantry-operator")
    add(
        "--redis-file",
        type=Path,
        help="file with the URL of Redis, as a user that may manage users; default: none, each pod counts for itself",
    )
    add("--redis-cidr", action="append", default=[], help="address range that Redis is in, if not in this cluster")
    add(
        "--redis-overlap",
        type=float,
        default=600.0,
        help="seconds that a tenant's former password in Redis stays good after its pods have the new (%(default)s)",
    )
    add("--listen", default="0.0.0.0", help="address of /healthz, /readyz and /metrics (%(default)s)")  # noqa: S104
    add("--port", type=int, default=8081, help="port of the same; 0 takes a free one and logs it (%(default)s)")
    add("--monitoring-namespace", default="", help="of Prometheus, which is let in to tenants' pods (default: nobody)")
    add("--page-port", type=int, default=0, help="port of the status page on 127.0.0.1; 0 takes a free one and logs it")
    add(
        "--advertise-address",
        default="",
        help="this process's own address for the API server and the activator; without it no metrics are served and"
        " nobody is put to sleep",
    )
    add("--secure-port", type=int, default=8443, help="port for those, HTTPS; 0 takes a free one (%(default)s)")
    add(
        "--metrics-source",
        default=MetricsSource.BUILTIN.value,
        choices=[each.value for each in MetricsSource],
        help="where HPAs read requests in flight (%(default)s)",
    )
    add("--scale-down-window", type=int, default=300, help="seconds of less load before a pod goes (%(default)s)")
    add("--pod-proxy", help="an HTTP proxy to reach pods through, for an operator outside of the cluster")
    add("--workers", type=int, default=16, help="tenants worked on at a time (%(default)s)")
    add("--writes-in-flight", type=int, default=WRITES_IN_FLIGHT, help="to the API server at a time (%(default)s)")
    add("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    mode = options.add_mutually_exclusive_group()
    mode.add_argument(
        "--release-all",
        action="store_true",
        help="before an uninstall: stop the running operator, take our finalizer from every Tenant, and end",
    )
    mode.add_argument("--apply-crds", action="store_true", help="before an upgrade: apply our CRDs, and end")
    return options


def _gateway(text: str) -> Gateway:
    namespace, _, rest = text.partition("/")
    name, _, section = rest.partition("/")
    if not (namespace and name):
        raise argparse.ArgumentTypeError("must be NAMESPACE/NAME, for example tenantry-system/tenantry")
    return Gateway(namespace=namespace, name=name, section=section)


def _annotation(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value


def refuse_wrong_usage(options: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """What no single option can tell. Ends the process with status 2."""
    if not (arguments.release_all or arguments.apply_crds or arguments.tenant_image):
        options.error("--tenant-image is required: the image that tenants' pods run, for example tenantry:1.0")
    if arguments.expose is Way.GATEWAY and not (arguments.gateway and "{tenant}" in arguments.gateway_url):
        options.error("--expose Gateway needs --gateway, and --gateway-url with {tenant} in it")


def exposure(arguments: argparse.Namespace) -> Exposure:
    """How tenants are reached from outside, as the command line says."""
    return Exposure(
        way=arguments.expose,
        gateway=arguments.gateway,
        url=arguments.gateway_url,
        ingress_class=arguments.ingress_class,
        ingress_annotations=dict(arguments.ingress_annotation),
        ingress_tls_secret=arguments.ingress_tls_secret,
        namespaces=tuple(arguments.forwarding_namespace),
        node_port_url=arguments.public_url_template,
    )


def platform(arguments: argparse.Namespace) -> Platform:
    """What is the same for all tenants, as far as the command line says it."""
    repository, tag = split_image(arguments.tenant_image)
    return Platform(
        namespace=arguments.namespace,
        image_repository=repository,
        image_tag=tag,
        image_pull_policy=arguments.tenant_image_pull_policy,
        exposure=exposure(arguments),
        tenant_role=arguments.tenant_role,
        service_account=arguments.service_account,
        monitoring_namespace=arguments.monitoring_namespace,
        metrics_source=MetricsSource(arguments.metrics_source),
        scale_down_window_seconds=arguments.scale_down_window,
    )


def scaling(arguments: argparse.Namespace) -> Settings:
    """How load is read, and where metrics and wake-ups are served."""
    return Settings(
        namespace=arguments.namespace,
        service_account=arguments.service_account,
        address=arguments.advertise_address,
        listen=arguments.listen,
        port=arguments.secure_port,
        pod_proxy=arguments.pod_proxy,
    )
