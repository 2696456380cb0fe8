"""The price book: list prices with the day and the place where they were seen. Reading one is all the I/O there is."""

import tomllib
from collections.abc import Mapping
from datetime import date
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import msgspec
from tenantry_service.pricing import nano_usd

HOURS = 730  # of a month, as AWS's own calculator has it


class PriceError(Exception):
    """A price book cannot be used; the message says which, where, and what to do."""


class Price(NamedTuple):
    """What one unit costs, in pico-USD (10^-12): Lambda's GB-second has ten decimals."""

    pico_usd: int
    unit: str
    seen: date
    source: str


class Instance(NamedTuple):
    """An EC2 instance type: price per hour, On-Demand and Spot, vCPUs, and the memory that it has for pods, in MiB."""

    name: str
    on_demand: Price
    spot: Price
    vcpu: int
    memory: int


class Book(NamedTuple):
    """All prices of a region."""

    region: str
    prices: Mapping[str, Price]
    instances: Mapping[str, Instance]


class _Price(msgspec.Struct, forbid_unknown_fields=True):
    usd: str
    unit: str
    seen: date
    source: str


class _Instance(msgspec.Struct, forbid_unknown_fields=True):
    usd: str
    vcpu: int
    memory: int
    seen: date
    source: str
    spot_saving: int
    spot_seen: date
    spot_source: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    region: str
    price: dict[str, _Price]
    instance: dict[str, _Instance]


def regions() -> list[str]:
    """The regions whose prices come with the package."""
    return sorted(each.name.removesuffix(".toml") for each in _shipped().iterdir() if each.name.endswith(".toml"))


def shipped(region: str) -> Book:
    """The prices of a region.

    Raises:
        PriceError: there are none for it.
    """
    if region not in regions():
        raise PriceError(
            f"--region: no prices for {region!r}; there are: {', '.join(regions())}. "
            "Prices of your own: --prices FILE, in the form of cli/tenantry_cost/prices/us-east-1.toml"
        )
    return parse((_shipped() / f"{region}.toml").read_text(encoding="utf-8"), region)


def load(path: Path) -> Book:
    """The prices of a file.

    Raises:
        PriceError: it cannot be read, or is not complete.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PriceError(f"--prices: {path}: {error}") from error


def parse(text: str, name: str) -> Book:
    """A price book from TOML.

    Raises:
        PriceError: not TOML, a field is missing, unknown or wrong, or a price that the model needs is not there.
    """
    try:
        read = msgspec.convert(tomllib.loads(text), _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise PriceError(f"prices of {name}: {error}") from error
    prices = {
        key: Price(_pico(each.usd, key), each.unit, each.seen, _url(each.source, key))
        for key, each in read.price.items()
    }
    missing = NEEDED - prices.keys()
    if missing or not read.instance:
        raise PriceError(f"prices of {name}: missing: {', '.join(sorted(missing)) or 'instances'}")
    return Book(read.region, prices, {key: _instance(key, each) for key, each in read.instance.items()})


#: Every price that the model asks for.
NEEDED = frozenset(
    {
        *(f"fargate.{architecture}.{part}" for architecture in ("x86", "arm") for part in ("vcpu", "memory")),
        *("lambda.arm.memory", "lambda.request", "apprunner.vcpu", "apprunner.memory", "eks.cluster"),
        *("alb.hour", "alb.lcu", "nat.hour", "nat.data", "ipv4", "transfer.out"),
        *("rds.t3.micro", "rds.t4g.micro", "rds.storage", "cache.redis.t3.micro", "cache.valkey.t4g.micro"),
        *("ebs.gp3", "sqs.request", "cloudwatch.alarm"),
    }
)


def _instance(name: str, read: _Instance) -> Instance:
    if not 0 <= read.spot_saving < 100:
        raise PriceError(f"instance {name}: spot_saving is {read.spot_saving}, not a percentage below 100")
    on_demand = Price(_pico(read.usd, name), "instance-hour", read.seen, _url(read.source, name))
    spot = Price(
        on_demand.pico_usd * (100 - read.spot_saving) // 100,
        "instance-hour",
        read.spot_seen,
        _url(read.spot_source, name),
    )
    return Instance(name, on_demand, spot, read.vcpu, read.memory)


def _pico(amount: str, name: str) -> int:
    whole, _, decimals = amount.partition(".")
    try:
        # Up to nine decimals are the ledger's own money; Lambda has more.
        coarse = nano_usd(f"{whole}.{decimals[:9] or '0'}")
        return coarse * 1000 + int(decimals[9:12].ljust(3, "0"))
    except ValueError as error:
        raise PriceError(f"price {name}: {error}") from error


def _url(source: str, name: str) -> str:
    if not source.startswith("https://"):
        raise PriceError(f"price {name}: source is {source!r}, not an https address")
    return source


def _shipped() -> resources.abc.Traversable:
    return resources.files("tenantry_cost") / "prices"
