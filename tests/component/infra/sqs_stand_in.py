"""Run as a module, with the Python of locks/cloud.txt: SQS as moto knows it, over HTTP, for clients that are not boto3.

Bodies go to boto3, which refuses parameters that SQS does not have; signatures are reckoned anew by botocore.
Prints the queue's URL. The first argument is a JSON list of message bodies to begin with, or the path of a template:
then the queue is the one of that stack, and a PUT of EventBridge events (a JSON list) puts them on the stack's bus.
"""

import json
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.credentials
from moto import mock_aws

from tests.component.infra import moto_stack
from tests.component.infra.moto_stack import QUEUE, REGION

KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session/token+with=signs"


def signature(url: str, body: bytes, headers: dict[str, str]) -> str:
    """What botocore makes of the same request at the same time."""
    asked = botocore.awsrequest.AWSRequest("POST", url, headers=headers, data=body)
    asked.context["timestamp"] = headers["x-amz-date"]
    signer = botocore.auth.SigV4Auth(botocore.credentials.Credentials(KEY, SECRET, TOKEN), "sqs", REGION)
    canonical = signer.canonical_request(asked)
    return str(signer.signature(signer.string_to_sign(asked, canonical), asked))


class Handler(BaseHTTPRequestHandler):
    """One request."""

    client: Any

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        said = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=(\S+), SignedHeaders=(\S+), Signature=([0-9a-f]{64})",
            self.headers["Authorization"],
        )
        names = said[2].split(";") if said else []
        signed = {name: self.headers[name] for name in names}
        wanted = {"host", "content-type", "x-amz-date", "x-amz-target", "x-amz-security-token"}
        url = f"http://{self.headers['Host']}/"
        if said is None or not wanted <= set(names) or said[3] != signature(url, body, signed):
            self.answer(403, {"__type": "SignatureDoesNotMatch"})
            return
        action = self.headers["X-Amz-Target"].removeprefix("AmazonSQS.")
        asked = json.loads(body)
        asked["QueueUrl"] = asked["QueueUrl"].replace(url, "https://sqs.us-east-1.amazonaws.com/")
        found = self.received(asked) if action == "ReceiveMessage" else self.client.delete_message(**asked)
        found.pop("ResponseMetadata")
        self.answer(200, found)

    def received(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A long poll. moto's own would keep everybody else out meanwhile."""
        until = time.monotonic() + asked.pop("WaitTimeSeconds", 0)
        while True:
            found: dict[str, Any] = self.client.receive_message(**asked, WaitTimeSeconds=0)
            if found.get("Messages") or time.monotonic() >= until:
                return found
            time.sleep(0.1)

    def do_PUT(self) -> None:
        """Events for the bus."""
        moto_stack.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(200, {})

    def answer(self, status: int, body: object) -> None:
        """Say it in SQS' JSON protocol."""
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        """How many messages are left, seen and unseen."""
        url = self.client.get_queue_url(QueueName=QUEUE)["QueueUrl"]
        kinds = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counted = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=kinds)["Attributes"]
        self.answer(200, sum(map(int, counted.values())))


def main(given: str) -> None:
    """Serve until killed."""
    Handler.client = boto3.client("sqs", REGION)
    if given.startswith("["):
        url = Handler.client.create_queue(QueueName=QUEUE, Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
        for body in json.loads(given):
            Handler.client.send_message(QueueUrl=url, MessageBody=body)
    else:
        moto_stack.create(given)
        url = Handler.client.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}{url.removeprefix('https://sqs.us-east-1.amazonaws.com')}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    with mock_aws():
        main(sys.argv[1])
