"""Files that are not what they were: a node starts as itself, or says what is wrong and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from covey.base.errors import CoveyError, StorageError
from covey.node import Node
from covey.node.storage.aside import moved_aside
from covey.testing.world import World
from tests.node.stage import Play, friends

CODES = {"store-corrupt", "store-foreign", "store-too-new", "disk-error", "disk-read-only", "storage"}

SEEDS = 60


def flip(path: Path, chance: Random) -> None:
    raw = bytearray(path.read_bytes())
    for _ in range(chance.choice((1, 1, 4, 40))):
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    path.write_bytes(raw)


def flip_header(path: Path, chance: Random) -> None:
    raw = bytearray(path.read_bytes())
    raw[chance.randrange(100)] ^= 1 << chance.randrange(8)
    path.write_bytes(raw)


def flip_text(path: Path, chance: Random) -> None:
    """Within what is stored, where SQLite itself notices nothing."""
    raw = bytearray(path.read_bytes())
    places = [at for at in range(len(raw) - 8) if raw[at : at + 8].isalnum()]
    for _ in range(8):
        raw[chance.choice(places)] ^= 1 << chance.randrange(8)
    path.write_bytes(raw)


def zero_page(path: Path, chance: Random) -> None:
    raw = bytearray(path.read_bytes())
    at = chance.randrange(len(raw) // 4096) * 4096
    raw[at : at + 4096] = bytes(4096)
    path.write_bytes(raw)


def noise_page(path: Path, chance: Random) -> None:
    raw = bytearray(path.read_bytes())
    at = chance.randrange(len(raw) // 4096) * 4096
    raw[at : at + 4096] = chance.randbytes(4096)
    path.write_bytes(raw)


def cut(path: Path, chance: Random) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: chance.randrange(len(raw))])


DAMAGES: list[Callable[[Path, Random], None]] = [flip, flip_header, flip_text, zero_page, noise_page, cut]


async def failure(world: World, name: str) -> CoveyError | None:
    """What keeps it from starting, if anything does."""
    try:
        await world.restart(name)
    except CoveyError as error:
        return error
    return None


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_database_starts_as_itself_or_says_what_to_do(
    play: Play, tmp_path: Path, damage: Callable[[Path, Random], None]
) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        for n in range(30):
            await a.send("b", f"message {n} " * 40, wait=0)
            await b.send("a", f"message {n}", wait=0)
        identity, home = b.identity, b.home
        await world.until(lambda: a.view().outbox_queued == 0 and b.view().outbox_queued == 0)
        await world.crash("b")
        pristine = tmp_path / "pristine"
        shutil.copytree(home.state_dir, pristine)
        refused = started = moved = 0
        for seed in range(SEEDS):
            shutil.rmtree(home.state_dir)
            shutil.copytree(pristine, home.state_dir)
            damage(home.database, Random(seed))
            damaged = home.database.read_bytes()
            error = await failure(world, "b")
            if error is None:
                started += 1
                again: Node = world.machines["b"].node  # type: ignore[attr-defined]
                assert again.identity == identity
                await world.crash("b")
                continue
            refused += 1
            assert isinstance(error, StorageError), f"seed {seed}: {error!r} ({error.code})"
            assert error.code in CODES, f"seed {seed}: {error!r}"
            assert error.next_step, f"seed {seed}: {error!r}"
            (kept,) = moved_aside(home.database) or [home.database]
            assert kept.stat().st_size > 0 or not damaged, f"seed {seed}"
            assert kept == home.database or not home.database.exists()
            moved += kept != home.database
        assert refused + started == SEEDS
        assert damage in (flip_text, flip_header) or moved > SEEDS // 8

    play(scenario, limit_s=7200)


def test_damaged_identity_keeps_a_node_from_starting_and_is_left_alone(play: Play) -> None:
    async def scenario(world: World) -> None:
        (_, b) = await friends(world, "a", "b")
        home, identity = b.home, b.identity
        await world.machines["b"].stop()  # type: ignore[attr-defined]
        good = home.identity_file.read_bytes()
        for seed in range(60):
            chance = Random(seed)
            raw = bytearray(good)
            for _ in range(1 + seed % 3):
                raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            bad = bytes(raw[: chance.randrange(len(raw))] if seed % 4 == 0 else raw)
            home.identity_file.write_bytes(bad)
            error = await failure(world, "b")
            if error is None:
                again: Node = world.machines["b"].node  # type: ignore[attr-defined]
                assert again.identity == identity, f"seed {seed}"
                await world.machines["b"].stop()  # type: ignore[attr-defined]
                continue
            assert (error.code, bool(error.next_step)) == ("identity-damaged", True), f"seed {seed}: {error!r}"
            assert home.identity_file.read_bytes() == bad, f"seed {seed}"
        home.identity_file.write_bytes(good)
        await world.restart("b")

    play(scenario)
