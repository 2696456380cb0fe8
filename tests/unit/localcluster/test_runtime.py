"""The runtime in front of runc asks for nothing that the machine cannot grant, and changes nothing else."""

import json
import subprocess
import sys
from pathlib import Path

from localcluster import runtime
from localcluster.runtime import filtered_process, granted, option

WITHOUT_SYS_RESOURCE = "Name:\tx\nCapBnd:\t000001fffeffffff\n"
EVERYTHING = "CapBnd:\t000001ffffffffff\n"


def test_the_bounding_set_is_read_by_name() -> None:
    assert "CAP_SYS_RESOURCE" not in granted(WITHOUT_SYS_RESOURCE)
    assert granted(EVERYTHING) - granted(WITHOUT_SYS_RESOURCE) == {"CAP_SYS_RESOURCE"}
    assert {"CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"} <= granted(WITHOUT_SYS_RESOURCE)


def test_missing_capabilities_leave_every_set_and_the_rest_stays() -> None:
    asked = ["CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_SYS_ADMIN"]
    process: dict[str, object] = {
        "args": ["init"],
        "capabilities": {"bounding": asked, "effective": asked, "ambient": None},
    }
    result = filtered_process(process, granted(WITHOUT_SYS_RESOURCE))
    assert result["args"] == ["init"]
    kept = ["CAP_CHOWN", "CAP_SYS_ADMIN"]
    assert result["capabilities"] == {"bounding": kept, "effective": kept, "ambient": []}


def test_a_negative_oom_score_is_clamped_only_without_the_capability_for_it() -> None:
    assert filtered_process({"oomScoreAdj": -500}, granted(WITHOUT_SYS_RESOURCE)) == {"oomScoreAdj": 0}
    assert filtered_process({"oomScoreAdj": 500}, granted(WITHOUT_SYS_RESOURCE)) == {"oomScoreAdj": 500}
    assert filtered_process({"oomScoreAdj": -500}, granted(EVERYTHING)) == {"oomScoreAdj": -500}


def test_options_are_found_in_both_spellings() -> None:
    assert option(["--root", "/r", "create", "--bundle", "/b", "id"], "--bundle", "-b") == "/b"
    assert option(["create", "-b", "/b"], "--bundle", "-b") == "/b"
    assert option(["exec", "--process=/p.json"], "--process", "-p") == "/p.json"
    assert option(["state", "id"], "--bundle", "-b") is None


def test_it_rewrites_the_bundle_and_then_becomes_runc_with_the_same_arguments(tmp_path: Path) -> None:
    unknown = "CAP_THAT_NO_KERNEL_HAS"
    config = {"ociVersion": "1.0", "process": {"capabilities": {"bounding": ["CAP_CHOWN", unknown]}}, "root": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    program = [sys.executable, "-I", "-S", runtime.__file__, "/bin/echo"]
    ran = subprocess.run(
        [*program, "create", "--bundle", str(tmp_path), "id"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["create", "--bundle", str(tmp_path), "id"]
    written = json.loads((tmp_path / "config.json").read_text())
    assert unknown not in written["process"]["capabilities"]["bounding"]
    assert written["root"] == {}
    assert written["ociVersion"] == "1.0"
