from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from covey.node.storage.database import Database
from covey.node.storage.files import Disk
from covey.node.storage.migrations import MIGRATIONS

FailingDisks = Callable[[int, bool], "FailingDisk"]


class FailingDisk(Disk):
    """Fails the n-th call (from 1). `dead`: and every later one, as if the power had gone."""

    def __init__(self, fail_at: int, dead: bool = True) -> None:
        self.calls = 0
        self.fail_at = fail_at
        self.dead = dead

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.fail_at or (self.dead and self.calls > self.fail_at):
            raise OSError(28, "No space left on device")

    def create(self, path: Path) -> int:
        self._count()
        return super().create(path)

    def write(self, fd: int, data: bytes) -> None:
        half = len(data) // 2
        super().write(fd, data[:half])  # a crash in the middle of a write leaves half of it
        self._count()
        super().write(fd, data[half:])

    def sync(self, fd: int) -> None:
        self._count()
        super().sync(fd)

    def close(self, fd: int) -> None:
        super().close(fd)
        self._count()

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._count()
        super().unlink(path)

    def sync_directory(self, path: Path) -> None:
        self._count()
        super().sync_directory(path)


@pytest.fixture
def failing_disk() -> FailingDisks:
    return FailingDisk


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "covey.db", MIGRATIONS, synchronous="OFF")
    yield opened
    opened.close()
