"""Completion offers what fits, asks for Tenants only where one is wanted, and knows every command there is."""

import argparse

import pytest
from tenantry_kubectl.complete import COMMANDS, COMMON, FILES, KEY_COMMANDS, NO_FILES, OPTIONS, candidates
from tenantry_kubectl.main import parser


def names() -> list[str]:
    return ["acme", "alpha", "globex"]


def never() -> list[str]:
    raise AssertionError("nobody is to be asked for")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["des"], ["describe", NO_FILES]),
        (["describe", "a"], ["acme", "alpha", NO_FILES]),
        (["key", "ro"], ["rotate", NO_FILES]),
        (["key", "rotate", "g"], ["globex", NO_FILES]),
        (["describe", "acme", ""], [NO_FILES]),
        (["diff", "-f", "x"], [FILES]),
        (["list", "-o", "j"], ["json", NO_FILES]),
        (["suspend", "--t"], ["--traffic", NO_FILES]),
    ],
)
def test_offers(typed: list[str], offered: list[str]) -> None:
    assert candidates(typed, names) == offered


@pytest.mark.parametrize("typed", [[], [""], ["list", ""], ["key", ""], ["rollback", "--"]])
def test_nobody_is_asked_for_tenants_where_none_is_wanted(typed: list[str]) -> None:
    assert candidates(typed, never)[-1] == NO_FILES


def test_every_command_and_option_that_is_offered_exists_and_the_other_way_round() -> None:
    commands = subcommands(parser())
    assert set(commands) == set(COMMANDS)
    assert tuple(subcommands(commands["key"])) == KEY_COMMANDS
    for name, command in commands.items():
        parts = subcommands(command).values() if name == "key" else [command]
        there = {option for part in parts for option in long_options(part)}
        assert set(OPTIONS.get(name, ())) | set(COMMON) >= there, name
        assert set(OPTIONS.get(name, ())) <= there, name


def subcommands(parse: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (found,) = [each for each in parse._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(found.choices)


def long_options(parse: argparse.ArgumentParser) -> set[str]:
    return {option for each in parse._actions for option in each.option_strings if option.startswith("--")} - {"--help"}
