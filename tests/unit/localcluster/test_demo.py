"""What the demo applies, where keys travel, and what it ends with."""

import base64
import json
import os
import stat
from pathlib import Path

import pytest
import yaml
from localcluster import demo, loading, release, tools
from localcluster.conversation import Answer, Conversation
from localcluster.engine import Engine
from localcluster.images import ALL, SIMULATOR, TENANTRY, Built
from localcluster.paths import Checkout
from localcluster.release import Target
from localcluster.stand import Stand
from localcluster.steps import ProgramFailed, StepLog, check_graph

ROOT = Path(__file__).resolve().parents[3]
ANSWER = Answer("http://127.0.0.1:30090/v1", "gpt-4o-mini", "Hello, you.", 2.345, ("Hello,", " you."))
REFERENCES = {image.name: f"{image.name}:dev-0123456789ab" for image in ALL}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """This working tree, with state and cache of the test's own."""
    return Checkout(root=ROOT, state=tmp_path / "state", cache=tmp_path / "cache")


@pytest.fixture
def log(tmp_path: Path) -> StepLog:
    return StepLog(tmp_path / "step.log")


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


class Recorder:
    """Programs in place of kubectl and Helm that write down their arguments and what they read."""

    def __init__(self, directory: Path) -> None:
        self.arguments = directory / "arguments"
        self.given = directory / "given"
        script = f'#!/bin/sh\necho "$@" >> {self.arguments}\n[ -t 0 ] || cat >> {self.given}\n'
        self.path = program(directory / "program", script)


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder(tmp_path)
    monkeypatch.setattr(release, "kubectl_program", lambda _: recorder.path)
    monkeypatch.setattr(tools, "helm", lambda _: recorder.path)
    return recorder


def test_the_upstream_is_openai_only_with_a_key() -> None:
    assert "https://api.openai.com/v1" in demo.tenant_manifest(ROOT, openai=True)
    assert "openai.com" not in demo.tenant_manifest(ROOT, openai=False)


def test_the_address_of_tenants_is_the_gateways_port() -> None:
    values = yaml.safe_load((ROOT / "kind/demo/values.yaml").read_text())
    port = values["gateway"]["envoy"]["service"]["nodePort"]
    assert values["exposure"]["url"] == f"http://127.0.0.1:{port}/{{tenant}}/v1"


def test_the_steps_of_the_demo_wait_for_what_they_need(checkout: Checkout) -> None:
    for key in (None, "sk-test"):
        steps = demo.Demo(checkout, key).steps()
        check_graph(steps)
        assert steps[-1].name == f"tenant {demo.TENANT}"
        assert "gateway" in steps[-1].after


def test_with_a_key_no_simulator_is_brought_up(checkout: Checkout) -> None:
    names = {step.name for step in demo.Demo(checkout, "sk-test").steps()}
    assert "upstream credentials" in names
    assert not {name for name in names if "simulator" in name}


def test_tiers_are_served_by_whom_the_tenants_of_the_demo_are_served_by() -> None:
    for openai, values in ((False, yaml.safe_load((ROOT / "kind/demo/values.yaml").read_text())), (True, None)):
        tenant = yaml.safe_load(demo.tenant_manifest(ROOT, openai))
        expected = (
            values["tiers"]["upstreams"]
            if values
            else [{name.removeprefix("tiers.upstreams[0]."): value for name, value in demo.OPENAI.items()}]
        )
        assert tenant["spec"]["upstreams"] == expected


def test_images_are_built_while_the_cluster_comes_up(checkout: Checkout) -> None:
    steps = {step.name: step for step in Stand(checkout, "demo", (TENANTRY, SIMULATOR)).steps()}
    needs: set[str] = set()
    waiting = list(steps["images"].after)
    while waiting:
        name = waiting.pop()
        needs.add(name)
        waiting += steps[name].after
    assert "cluster" not in needs
    assert "node image" not in needs


def test_the_openai_key_travels_over_standard_input_only(
    checkout: Checkout, recorder: Recorder, log: StepLog, tmp_path: Path
) -> None:
    release.store_credentials(Target(checkout, tmp_path / "kubeconfig"), "openai", "sk-secret", log)
    secret = json.loads(recorder.given.read_text())
    assert secret["stringData"] == {"api-key": "sk-secret"}
    assert secret["metadata"]["labels"] == {"tenantry.dev/upstream-credentials": "true"}
    assert "sk-secret" not in recorder.arguments.read_text()
    assert "--server-side" in recorder.arguments.read_text(), "else an annotation keeps a copy"
    assert "sk-secret" not in log.path.read_text()


def test_no_program_inherits_the_openai_key(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    class Stop(Exception):  # noqa: N818 - not an error
        pass

    def stop(checkout: Checkout, key: str | None) -> None:
        seen.extend([key, os.environ.get("OPENAI_API_KEY")])
        raise Stop

    monkeypatch.setenv("OPENAI_API_KEY", " sk-secret\n")
    monkeypatch.setattr(demo, "Demo", stop)
    with pytest.raises(Stop):
        demo.main([])
    assert seen == ["sk-secret", None]


def test_a_tenants_key_is_read_without_showing_it(
    checkout: Checkout, log: StepLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = base64.b64encode(b"tn_abc_secret").decode()
    script = f'#!/bin/sh\ncase "$*" in *secret*) echo {encoded};; *) printf http://127.0.0.1:30080/v1;; esac\n'
    path = program(tmp_path / "kubectl", script)
    monkeypatch.setattr(release, "kubectl_program", lambda _: path)
    found = release.access(Target(checkout, tmp_path / "kubeconfig"), "acme", log)
    assert found == ("http://127.0.0.1:30080/v1", "tn_abc_secret")
    assert encoded not in log.path.read_text()


def test_the_chart_is_told_our_image_and_the_datastores_only_when_there_are_any() -> None:
    assert release.image_settings({TENANTRY.name: "tenantry:dev-1"}) == {
        "image.repository": "tenantry",
        "image.tag": "dev-1",
    }
    assert release.image_settings(REFERENCES)["dev.datastores.redis.image"] == REFERENCES["tenantry-dev-redis"]


def test_the_simulator_runs_the_image_that_was_built(
    checkout: Checkout, recorder: Recorder, log: StepLog, tmp_path: Path
) -> None:
    release.deploy_simulator(Target(checkout, tmp_path / "kubeconfig"), REFERENCES, log)
    assert f"image: {REFERENCES[SIMULATOR.name]}\n" in recorder.given.read_text()


def test_nothing_is_built_for_those_who_have_kubectl(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = program(tmp_path / "bin/kubectl", "#!/bin/sh\n")
    ours = program(tmp_path / "ours", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(theirs.parent))
    monkeypatch.setattr(tools, "kubectl", lambda _: ours)
    assert release.kubectl_program(checkout) == theirs
    program(tools.place(checkout, "kube"), "#!/bin/sh\n")
    assert release.kubectl_program(checkout) == ours
    monkeypatch.setenv("PATH", str(tmp_path))
    assert release.kubectl_program(checkout) == ours


def asker(checkout: Checkout, tmp_path: Path, script: str) -> Checkout:
    """Return a checkout whose interpreter is a shell script."""
    program(tmp_path / "tree/.venv/bin/python", f"#!/bin/sh\n{script}\n")
    return Checkout(root=tmp_path / "tree", state=checkout.state, cache=checkout.cache)


def test_a_conversation_gives_answer_and_stream_and_the_key_is_on_no_command_line(
    checkout: Checkout, log: StepLog, tmp_path: Path
) -> None:
    said = """echo ready; read told; echo "$told" > "$(dirname "$0")/told"
        echo 'a warning of some library'
        echo '{"answer": "Hello.", "model": "gpt-4o-mini"}'; echo '{"piece": "Hel"}'; echo '{"piece": "lo."}'"""
    tree = asker(checkout, tmp_path, said)
    with Conversation(tree, log) as conversation:
        answer = conversation.hold("http://127.0.0.1:30080/v1", "tn_abc_secret", "gpt-4o-mini", began=0.0)
    assert (answer.text, answer.streamed, answer.pieces) == ("Hello.", ("Hel", "lo."), 2)
    assert json.loads((tree.root / ".venv/bin/told").read_text())["api_key"] == "tn_abc_secret"
    assert "tn_abc_secret" not in log.path.read_text()
    assert "a warning of some library" in log.path.read_text()


@pytest.mark.parametrize(
    "script",
    [
        "echo ready; read told; echo 'openai.AuthenticationError'; exit 1",
        """echo ready; read told; echo '{"answer": "Hello.", "model": "m"}'""",
    ],
    ids=["an error", "no stream"],
)
def test_a_conversation_that_lacks_anything_fails(
    checkout: Checkout, log: StepLog, tmp_path: Path, script: str
) -> None:
    with (
        Conversation(asker(checkout, tmp_path, script), log) as conversation,
        pytest.raises(ProgramFailed, match="an answer and a stream"),
    ):
        conversation.hold("http://127.0.0.1:1/v1", "key", "m", began=0.0)


def test_an_environment_without_the_sdk_is_told_from_an_endpoint_without_an_answer(
    checkout: Checkout, log: StepLog, tmp_path: Path
) -> None:
    with pytest.raises(ProgramFailed, match="import the OpenAI SDK"):
        Conversation(asker(checkout, tmp_path, "exit 1"), log)


@pytest.mark.parametrize(("own", "command"), [(True, "/built/kubectl get tenants"), (False, " kubectl get tenants")])
def test_it_ends_with_figures_and_three_commands_that_work_as_they_stand(own: bool, command: str) -> None:
    text = demo.farewell(ANSWER, Path("/state/kubeconfig"), Path("/built/kubectl"), 61.25, own_kubectl=own)
    assert "Hello, you." in text
    assert "2.3 s" in text
    assert "61.2 s" in text
    assert "export KUBECONFIG=/state/kubeconfig;" in text
    assert command in text
    assert "curl http://127.0.0.1:30090/v1/chat/completions" in text
    assert text.splitlines()[-1].strip() == "make demo-down"
    assert "tn_" not in text, "the key is looked up by the command, not printed"


def engine_of(tmp_path: Path, nodes_with_images: set[str], images: list[str]) -> tuple[Engine, Path]:
    """Return an engine whose nodes have images or not, and the file in which imports are written down."""
    imported = tmp_path / "imported"
    listed = " ".join(images)
    known = "|".join(nodes_with_images) or "nobody"
    script = f"""#!/bin/sh
        case "$*" in
            *" images ls "*) case "$5" in {known}) printf '%s\\n' {listed};; esac;;
            *" images import "*) echo "$5 $(cat)" >> {imported};;
        esac"""
    docker = program(tmp_path / "docker", script)
    return Engine(host="unix:///engine", cli=docker, own=True, path=os.environ["PATH"]), imported


def test_only_nodes_that_lack_an_image_get_the_archive(log: StepLog, tmp_path: Path) -> None:
    archive = tmp_path / "images.tar"
    archive.write_text("layers")
    nodes = loading.node_names("demo")
    named = [f"docker.io/library/{reference}" for reference in REFERENCES.values()]
    engine, imported = engine_of(tmp_path, {nodes[0]}, named)
    loading.load(Built(REFERENCES, archive), nodes, engine, log)
    assert sorted(imported.read_text().splitlines()) == [f"{nodes[1]} layers", f"{nodes[2]} layers"]
    assert log.last_note == "into 2 of 3 nodes"


def test_nothing_is_loaded_twice(log: StepLog, tmp_path: Path) -> None:
    nodes = loading.node_names("demo")
    named = [f"docker.io/library/{reference}" for reference in REFERENCES.values()]
    engine, imported = engine_of(tmp_path, set(nodes), named)
    loading.load(Built(REFERENCES, tmp_path / "no-archive-needed"), nodes, engine, log)
    assert not imported.exists()
