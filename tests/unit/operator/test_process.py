"""The process around it: options, probes and log lines."""

import json
import logging

import pytest
from aiohttp import ClientSession
from tenantry_operator import logs
from tenantry_operator.main import main
from tenantry_operator.options import parser
from tenantry_operator.probes import LONGEST_SILENCE, LONGEST_WAIT, Vitals, serve
from tenantry_service.logs import JsonFormatter


def test_the_image_is_asked_for_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "--tenant-image is required" in capsys.readouterr().err


def test_hooks_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--release-all", "--apply-crds"])
    assert "not allowed with" in capsys.readouterr().err


def test_a_missing_kubeconfig_ends_with_status_1_and_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tenant-image", "tenantry:1", "--kubeconfig", "/no/such/file"]) == 1
    assert "/no/such/file" in capsys.readouterr().err


def test_standing_by_is_healthy_whatever_the_watches_say() -> None:
    assert Vitals(watch_age=lambda: 1e6, oldest_wait=lambda: 1e6).sickness() is None


def test_a_leader_that_is_stuck_or_deaf_is_sick() -> None:
    assert Vitals(leading=True, synced=True).sickness() is None
    stuck = Vitals(leading=True, oldest_wait=lambda: LONGEST_WAIT + 1).sickness()
    assert stuck is not None
    assert "waiting" in stuck
    deaf = Vitals(leading=True, synced=True, watch_age=lambda: LONGEST_SILENCE + 1).sickness()
    assert deaf is not None
    assert "watch event" in deaf


def test_ready_means_able_to_do_its_part() -> None:
    assert Vitals().unreadiness() == "starting"
    assert Vitals(started=True).unreadiness() is None
    assert Vitals(started=True, leading=True).unreadiness() == "reading the cluster"
    assert Vitals(started=True, leading=True, synced=True).unreadiness() is None


async def test_the_probes_answer_over_http() -> None:
    vitals = Vitals()
    runner = await serve(vitals, host="127.0.0.1", port=0)
    try:
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with ClientSession() as session:
            async with session.get(f"{base}/readyz") as response:
                assert (response.status, await response.text()) == (503, "starting\n")
            vitals.started = True
            async with session.get(f"{base}/readyz") as response:
                assert response.status == 200
            async with session.get(f"{base}/metrics") as response:
                assert "tenantry_queue_depth" in await response.text()
            vitals.tenants = lambda wanted: f"tenantry_queue_parked: {'tenantry_queue_parked' in wanted}"
            asked = {"name[]": "tenantry_queue_parked"}
            async with session.get(f"{base}/metrics", params=asked) as response:
                text = await response.text()
                assert text.endswith("tenantry_queue_parked 0.0\ntenantry_queue_parked: True")
                assert text.count("# TYPE") == 1, "what is not asked for is not worked out"
    finally:
        await runner.cleanup()


def test_a_log_line_is_json_and_carries_what_is_bound_and_given() -> None:
    logs.bind(tenant="acme", attempt=2)
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "put %s", "args": ("off",), "digest": "d"})
    line = json.loads(JsonFormatter(logs.bound).format(record))
    assert line["message"] == "put off"
    assert (line["tenant"], line["attempt"], line["digest"], line["level"]) == ("acme", 2, "d", "info")
