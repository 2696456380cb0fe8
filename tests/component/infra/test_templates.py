"""The templates in infra/: what CloudFormation, its linters and a stand-in for AWS say of them, without an account."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from tenantry_service import serve

from tests.component.infra.templates import CLUSTER, INFRA, ROOT, SERVICES, TEMPLATES, at, resources

#: What the command does; the script that pip makes of it does not survive the move of its environment.
CFN_LINT = "import sys; from cfnlint.runner import main; sys.exit(main())"
REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-2")


def run(argv: list[str | Path], env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=env, timeout=840)


@pytest.mark.timeout(900)
def test_cfn_lint_has_nothing_to_say_in_any_of_five_regions(cloud_python: Path) -> None:
    done = run([cloud_python, "-c", CFN_LINT, "--regions", *REGIONS, "--", *TEMPLATES])
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_cfn_lint_would_say_something(cloud_python: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(CLUSTER.read_text().replace("CapacityType: SPOT", "CapacityType: SPOTTY"))
    done = run([cloud_python, "-c", CFN_LINT, wrong])
    assert "SPOTTY" in done.stdout


@pytest.mark.timeout(900)
def test_checkov_fails_nothing_and_every_suppression_is_explained_and_needed(
    checkov_python: Path, tmp_path: Path
) -> None:
    # It goes by the parameters' defaults, and what is left out by default is to be looked at, too.
    for template in TEMPLATES:
        copy = tmp_path / template.relative_to(INFRA)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(template.read_text().replace("Default: none", "Default: cache.t4g.micro"))
    argv: list[str | Path] = [
        checkov_python,
        "-m",
        "checkov.main",
        "--directory",
        tmp_path,
        "--framework",
        "cloudformation",
    ]
    # Without an API key the hosted guidelines are not asked for, and severities are not known.
    done = run([*argv, "--output", "json", "--compact", "--skip-download"])
    results = json.loads(done.stdout)["results"]
    assert [(check["check_id"], check["resource"]) for check in results["failed_checks"]] == []
    assert len(results["passed_checks"]) > 100
    suppressed = {
        (check["file_path"].lstrip("/"), check["resource"].rpartition(".")[2], check["check_id"])
        for check in results["skipped_checks"]
    }
    declared = {
        (str(template.relative_to(INFRA)), name, skip["id"])
        for template in TEMPLATES
        for name, resource in resources(template).items()
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])  # type: ignore[attr-defined]
        if len(skip["comment"]) > 30
    }
    assert suppressed == declared


WARNING = {
    "source": "aws.ec2",
    "detail-type": "EC2 Spot Instance Interruption Warning",
    "detail": {"instance-id": "i-0b662ef9931388ba0", "instance-action": "terminate"},
}
EVENTS = [
    WARNING,
    {"source": "aws.ec2", "detail-type": "EC2 Instance Rebalance Recommendation", "detail": {"instance-id": "i-1"}},
    {
        "source": "aws.ec2",
        "detail-type": "EC2 Instance State-change Notification",
        "detail": {"instance-id": "i-2", "state": "stopping"},
    },
    {
        "source": "aws.ec2",
        "detail-type": "EC2 Instance State-change Notification",
        "detail": {"instance-id": "i-3", "state": "running"},
    },
    {"source": "aws.health", "detail-type": "AWS Health Event", "detail": {"service": "EC2"}},
    {"source": "aws.health", "detail-type": "AWS Health Event", "detail": {"service": "RDS"}},
    {
        "source": "aws.autoscaling",
        "detail-type": "EC2 Instance-terminate Lifecycle Action",
        "detail": {"EC2InstanceId": "i-4"},
    },
]


@pytest.mark.timeout(900)
def test_a_stand_in_for_aws_creates_the_stack_and_notices_of_interruptions_reach_the_queue(
    cloud_python: Path, aws_environment: dict[str, str]
) -> None:
    script = Path(__file__).with_name("moto_stack.py")
    done = run([cloud_python, script, CLUSTER, json.dumps(EVENTS)], aws_environment)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["status"] == "CREATE_COMPLETE"
    received = [(event["detail-type"], event["detail"]) for event in told["received"]]
    wanted = [
        event
        for event in EVENTS
        if event["detail"] not in ({"service": "RDS"}, {"instance-id": "i-3", "state": "running"})
    ]
    assert sorted(received, key=str) == sorted(((event["detail-type"], event["detail"]) for event in wanted), key=str)
    assert told["queue"]["MessageRetentionPeriod"] == "300"
    assert {"10.40.0.0/19", "10.40.32.0/19", "10.40.64.0/19", "10.40.96.0/19"} <= set(told["subnets"])
    assert not {"InterruptionQueue", "SpotInterruptionRule", "Vpc"} & set(told["leftOut"])


def test_network_policies_are_enforced_and_nodes_hold_as_many_pods_as_they_are_told() -> None:
    cluster = resources(CLUSTER)
    configuration = json.loads(str(at(cluster, "VpcCni.Properties.ConfigurationValues")))
    assert configuration["enableNetworkPolicy"] == "true"
    assert configuration["env"]["ENABLE_PREFIX_DELEGATION"] == "true"
    eksctl = yaml.safe_load((INFRA / "eks" / "eksctl.yaml").read_text())
    (short,) = (addon for addon in eksctl["addons"] if addon["name"] == "vpc-cni")
    assert json.loads(short["configurationValues"]) == configuration
    user_data = str(at(cluster, "NodeTemplate.Properties.LaunchTemplateData.UserData"))
    assert "maxPods: ${MaxPods}" in user_data
    for name, resource in cluster.items():
        if resource["Type"] == "AWS::EKS::Nodegroup":
            assert at(resource, "Properties.AmiType") == "AL2023_ARM_64_STANDARD", name
            assert "VpcCni" in str(resource["DependsOn"]), "a node that comes first has neither prefixes nor policies"


def test_spot_nodes_carry_a_taint_that_eks_accepts_and_tenants_tolerate_and_several_types() -> None:
    groups = {name: r for name, r in resources(CLUSTER).items() if r["Type"] == "AWS::EKS::Nodegroup"}
    spot = {name for name, group in groups.items() if at(group, "Properties.CapacityType") == "SPOT"}
    assert spot == {"SpotGeneralNodeGroup", "SpotComputeNodeGroup"}
    tolerated = (ROOT / "charts" / "tenant" / "templates" / "_placement.tpl").read_text()
    for name in spot:
        taint = at(groups[name], "Properties.Taints.0")
        assert taint == {"Key": "karpenter.sh/capacity-type", "Value": "spot", "Effect": "NO_SCHEDULE"}
        assert f"{{key: {at(taint, 'Key')}, operator: Exists, effect: NoSchedule}}" in tolerated
    text = CLUSTER.read_text()
    for parameter in ("SpotGeneralTypes", "SpotComputeTypes"):
        types = text.split(f"  {parameter}:\n")[1].split("Default: ")[1].splitlines()[0].split(",")
        assert len(types) >= 5, parameter
        assert len({kind.partition(".")[2] for kind in types}) == 1, "one size, or the smallest decides for all"


def test_there_is_no_nat_gateway_anywhere() -> None:
    for template in TEMPLATES:
        assert "AWS::EC2::NatGateway" not in {resource["Type"] for resource in resources(template).values()}


def test_dashboard_and_user_data_are_what_they_should_be_once_filled_in(tmp_path: Path) -> None:
    body = str(at(resources(CLUSTER), "Dashboard.Properties.DashboardBody.Fn::Sub"))
    assert len(json.loads(body)["widgets"]) == 4
    script = str(
        at(
            resources(INFRA / "ec2-asg" / "service.yaml"),
            "Template.Properties.LaunchTemplateData.UserData.Fn::Base64.Fn::Sub",
        )
    )
    for name in ("AWS::Region", "Image", "ServeSecret"):
        script = script.replace("${" + name + "}", "filled-in")
    assert "${" not in script
    path = tmp_path / "user-data"
    path.write_text(script)
    assert run(["bash", "-n", path]).stderr == ""


START = {
    "ecs-fargate": "Task.Properties.ContainerDefinitions.0.Command",
    "lambda": "Function.Properties.ImageConfig.Command",
    "app-runner": "Service.Properties.SourceConfiguration.ImageRepository.ImageConfiguration.StartCommand",
}


@pytest.mark.parametrize("template", SERVICES, ids=lambda path: path.parent.name)
def test_the_start_command_is_one_that_the_service_understands(template: Path) -> None:
    system = template.parent.name
    if system == "ec2-asg":
        line = next(line for line in template.read_text().splitlines() if "serve-from-environment" in line)
        command = line.split("${Image} ")[1].split()
    else:
        found = at(resources(template), START[system])
        command = found.removeprefix("tenantry ").split() if isinstance(found, str) else [str(part) for part in found]  # type: ignore[attr-defined]
    assert command[0] == "serve-from-environment"
    options = serve.parser().parse_args(["--policy", "x", *command[1:]])
    assert options.port == 8000
    # On Fargate and Lambda nothing but /tmp belongs to the image's user.
    assert options.state_dir.is_relative_to("/tmp") or system == "ec2-asg"


def test_only_lambda_puts_secrets_into_its_configuration_and_nobody_into_a_command() -> None:
    for template in SERVICES:
        text = template.read_text()
        assert ("resolve:secretsmanager" in text) == (template.parent.name == "lambda")
        assert "TENANTRY_POLICY" in text


def test_app_runner_says_that_it_is_closed_and_what_takes_its_place() -> None:
    text = (INFRA / "app-runner" / "service.yaml").read_text()
    assert "TAKES NO NEW CUSTOMERS" in text
    assert "ECS Express Mode" in text
