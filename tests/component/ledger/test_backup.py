"""The ledger's backup and its way back, by the commands of docs/operating.md."""

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from localcluster import datastores
from localcluster.debian import environment
from tenantry_service.writer.rollups import Publisher

from tests.component.ledger.making import event, put
from tests.component.ledger.test_reading import published
from tests.component.ledger.world import World

GUIDE = (Path(__file__).resolve().parents[3] / "docs/operating.md").read_text()


def command(program: str) -> str:
    """The guide's command of this program."""
    (found,) = re.findall(rf"^{program} .*$", GUIDE, re.MULTILINE)
    return str(found)


def run(line: str, database: str, directory: Path) -> None:
    """Type it, as the guide says that the environment is to be."""
    where = urlsplit(database)
    place = datastores.programs()
    known = environment(place)
    (programs,) = place.glob("usr/lib/postgresql/*/bin")
    variables = {
        **os.environ,
        **known,
        "PATH": f"{programs}{os.pathsep}{known['PATH']}",
        "PGHOST": str(where.hostname),
        "PGPORT": str(where.port),
        "PGUSER": str(where.username),
        "PGPASSWORD": str(where.password),
    }
    text = re.sub(r"\btenantry\b", where.path.lstrip("/"), line)
    done = subprocess.run(
        ["bash", "-c", text], cwd=directory, env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stderr}"


async def ids(world: World) -> set[str]:
    """Of all events in the ledger."""
    return {str(row["event_id"]) for row in await world.rows()}


async def test_a_ledger_comes_back_as_it_was_and_takes_what_has_waited(
    world: World, database: str, tmp_path: Path
) -> None:
    publishing = Publisher(world.redis, world.mover.connect, world.figures)
    world.mover.wrote = publishing.changed
    await put(world.redis, event("a"), event("b"))
    await world.round()
    saved = await ids(world)
    run(command("pg_dump"), database, tmp_path)
    await put(world.redis, event("later"))
    await world.round()
    assert len(await ids(world)) == 3
    for program in ("dropdb", "createdb", "pg_restore"):
        run(command(program), database, tmp_path)
    assert await ids(world) == saved, "as it was when it was saved"
    await put(world.redis, event("waited"))
    await world.round()
    await publishing.publish()
    assert len((await ids(world)) - saved) == 1
    spent = await published(world)
    assert spent is not None
    assert spent.month.requests == 3, "what is said to be spent is what the ledger has"
