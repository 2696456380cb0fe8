"""`tenantry cost` on the command line: text, JSON, a plot, and refusals that name the option."""

import json
import re
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tenantry_cost.bill import System
from tenantry_cost.main import main

SVG = "{http://www.w3.org/2000/svg}"


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 0
    return capsys.readouterr().out


def test_text_shows_lines_totals_and_the_cheapest_first(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, "--tenants", "50", "--model", "gpt-4o-mini")
    for system in System:
        assert re.search(rf"^{system}$", shown, re.MULTILINE)
    ranked = [
        Decimal(found.replace(",", "")) for found in re.findall(r"^  \S+ +([\d,.]+) +\S+ for each", shown, re.MULTILINE)
    ]
    assert len(ranked) == len(System)
    assert ranked == sorted(ranked)
    assert "gpt-4o-mini tokens, the same everywhere: 540.00" in shown


def test_json_adds_up_and_names_every_source(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(printed(capsys, "--format", "json", "--stream-seconds", "12.5"))
    assert told["workload"]["streamSeconds"] == "12.5"
    for system in told["systems"]:
        assert Decimal(system["totalUsd"]) == sum(Decimal(line["usd"]) for line in system["items"])
        assert all(line["source"].startswith("https://") and line["seen"] for line in system["items"])
        for line in system["items"]:
            assert abs(Decimal(line["quantity"]) * Decimal(line["unitPriceUsd"]) - Decimal(line["usd"])) < Decimal(
                "0.006"
            )


def test_the_plot_has_a_named_line_for_each_system_inside_its_frame(capsys: pytest.CaptureFixture[str]) -> None:
    drawing = ElementTree.fromstring(printed(capsys, "--format", "svg", "--plot-tenants", "200"))
    width, height = (float(drawing.attrib[side]) for side in ("width", "height"))
    named = {text.text for text in drawing.iter(f"{SVG}text")}
    assert set(System) <= named
    lines = list(drawing.iter(f"{SVG}polyline"))
    assert len(lines) == len(System)
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
        assert [y for _, y in points] == sorted((y for _, y in points), reverse=True), "more tenants never cost less"


@pytest.mark.parametrize("tenants", ["2", "5000"])
def test_names_in_the_plot_do_not_cover_each_other(capsys: pytest.CaptureFixture[str], tenants: str) -> None:
    drawing = ElementTree.fromstring(
        printed(capsys, "--format", "svg", "--plot-tenants", tenants, "--stream-seconds", "1000")
    )
    heights = sorted(float(text.attrib["y"]) for text in drawing.iter(f"{SVG}text") if text.text in set(System))
    assert len(heights) == len(System) - 1, "a function cannot run for 1,000 s"
    assert all(below - above >= 14 for above, below in pairwise(heights))


def test_the_starting_comparison_is_shown_with_its_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, "--starting-comparison")
    assert re.search(r"control plane +0 +73\.00 +was missing", shown)
    assert len(json.loads(printed(capsys, "--starting-comparison", "--format", "json"))) == len(System)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--region", "mars-1"], "us-east-1"),
        (["--node", "m7g.huge"], "m7g.large"),
        (["--prices", "/nowhere.toml"], "/nowhere.toml"),
    ],
)
def test_what_cannot_be_priced_is_refused_with_what_can(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [["--tenants", "0"], ["--stream-seconds", "-1"], ["--peak", "1/0"], ["--model", "gpt-0"]]
)
def test_a_number_out_of_range_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(argv)
    assert argv[0] in capsys.readouterr().err


def test_prices_of_ones_own_take_the_place_of_those_that_come_with_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    own = tmp_path / "eu.toml"
    shipped = (Path(__file__).resolve().parents[3] / "cli/tenantry_cost/prices/us-east-1.toml").read_text()
    own.write_text(
        shipped.replace('"us-east-1"', '"eu-west-1"').replace(
            'usd = "0.10"\nunit = "cluster-hour"', 'usd = "1.00"\nunit = "cluster-hour"'
        )
    )
    shown = printed(capsys, "--prices", str(own))
    assert "eu-west-1" in shown
    assert re.search(r"control plane .* 730\.00$", shown, re.MULTILINE)
