"""Run with the Python of locks/cloud.txt: creates what moto knows of infra/eks/cluster.yaml, sends events, prints JSON.

moto 5.2 creates neither EKS, ElastiCache users, alarms nor budgets, and has no Fn::Cidr; what is left out is printed.
"""

import json
import re
import sys
from datetime import datetime
from ipaddress import ip_network
from typing import Any

import boto3
from cfnlint.decode import decode
from moto import mock_aws

KNOWN = {
    *(f"AWS::EC2::{kind}" for kind in ("VPC", "Subnet", "InternetGateway", "VPCGatewayAttachment", "RouteTable")),
    *(f"AWS::EC2::{kind}" for kind in ("Route", "SubnetRouteTableAssociation", "VPCEndpoint")),
    *("AWS::SQS::Queue", "AWS::Events::Rule", "AWS::SNS::Topic"),
    *("AWS::RDS::DBSubnetGroup",),
}
Template = dict[str, Any]

REGION, QUEUE = "us-east-1", "tenantry-interruptions"
PARAMETERS = {"ApiAccessCidr": "203.0.113.7/32", "AlertEmail": "ops@example.com"}


def reduced(template: Template) -> tuple[Template, list[str]]:
    """The template with what moto knows, and the names of the resources left out."""
    resources = template["Resources"]
    left_out = sorted(name for name, resource in resources.items() if resource["Type"] not in KNOWN)
    kept = {name: resource for name, resource in resources.items() if name not in left_out}
    # An alarm on something that was left out goes with it.
    gone = re.compile(rf'"({"|".join(left_out)})[".]')
    for name in [name for name, resource in kept.items() if gone.search(json.dumps(resource))]:
        left_out.append(name)
        del kept[name]
    network = ip_network(template["Parameters"]["VpcCidr"]["Default"])

    def cidrs(value: object) -> object:
        match value:
            case {"Fn::Select": [index, {"Fn::Cidr": [_, _, bits]}]}:
                return str(list(network.subnets(new_prefix=32 - int(bits)))[int(index)])
            case dict():
                return {key: cidrs(each) for key, each in value.items()}
            case list():
                return [cidrs(each) for each in value]
        return value

    rest = {key: value for key, value in template.items() if key not in ("Outputs", "Metadata")}
    return {**rest, "Resources": cidrs(kept)}, left_out


def create(path: str) -> tuple[Template, list[str]]:
    """Create the stack; the stack, and what was left out."""
    template, problems = decode(path)
    assert not problems, problems
    smaller, left_out = reduced(json.loads(json.dumps(template, default=str)))
    cloudformation = boto3.client("cloudformation", REGION)
    cloudformation.create_stack(
        StackName="tenantry",
        TemplateBody=json.dumps(smaller),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in PARAMETERS.items()],
    )
    (stack,) = cloudformation.describe_stacks(StackName="tenantry")["Stacks"]
    return stack, left_out


def put(events: list[Template]) -> None:
    """Put events on the bus. Their ``time`` is kept, where they have one."""
    entries = [
        {
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": json.dumps(event["detail"]),
            "Resources": event.get("resources", []),
            **({"Time": datetime.fromisoformat(event["time"])} if "time" in event else {}),
        }
        for event in events
    ]
    told = boto3.client("events", REGION).put_events(Entries=entries)
    assert told["FailedEntryCount"] == 0, told


def main(path: str, events: list[Template]) -> None:
    """Create the stack, put the events on the bus, read the queue."""
    stack, left_out = create(path)
    sqs = boto3.client("sqs", REGION)
    queue = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    put(events)
    received = []
    while got := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=0).get("Messages"):
        received += [json.loads(message["Body"]) for message in got]
    print(
        json.dumps(
            {
                "status": stack["StackStatus"],
                "leftOut": left_out,
                "queue": sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"],
                "subnets": sorted(s["CidrBlock"] for s in boto3.client("ec2", REGION).describe_subnets()["Subnets"]),
                "received": received,
            }
        )
    )


if __name__ == "__main__":
    with mock_aws():
        main(sys.argv[1], json.loads(sys.argv[2]))
