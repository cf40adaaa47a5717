"""Programs that run beside the two ends: tunnels, brokers, relays, daemons, links.

Each ends with the input of the shell that holds it, so nothing of a benchmark outlives the benchmark, however it ends.
"""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from covey.bench.pair import Failed, Site

__all__ = ["holding", "run", "running"]

_START_SECONDS = 20.0
_END_SECONDS = 10.0
_WORDS = 1000
"""Characters of what a program said that explain its end."""


def holding(
    program: Sequence[str], *, before: str = ":", ready: str = "", pid_file: str | os.PathLike[str] = "/dev/null"
) -> list[str]:
    """A shell that runs `before`, then the program until its own input ends.

    `ready` are commands that end once the program serves; without, its first line of output says so. `pid_file` gets
    the program's number before that.
    """
    said = f"{{ {ready}; }} && echo ready || {{ kill $program; exit 1; }}" if ready else ":"
    output = ">&2" if ready else ""
    numbered = ["sh", "-c", 'echo $$ > "$0"; exec "$@"', os.fspath(pid_file), *program]
    script = f"{before} || exit 1\n{shlex.join(numbered)} {output} &\nprogram=$!\n{said}\ncat >&2; kill $program; wait"
    return ["sh", "-c", script]


@contextmanager
def running(site: Site, end: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """A program at a place that says a line when it is ready and ends with its input: that line. Raises Failed."""
    with tempfile.NamedTemporaryFile(prefix="covey-bench-") as errors:
        process = subprocess.Popen(
            site.command(end, argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **(environment or {})},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = _first_line(process.stdout.fileno(), time.monotonic() + _START_SECONDS)
            if not line:
                said = Path(errors.name).read_text(errors="replace").strip()[-_WORDS:]
                raise Failed(f"{shlex.join(argv)[:80]} does not start: {said}")
            yield line
        finally:
            process.stdin.close()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def _first_line(descriptor: int, until: float) -> str:
    """ "" if none comes."""
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
        data = os.read(descriptor, 1) if ready else b""
        if not data:
            return ""
        line += data
    return line.decode(errors="replace").strip()


def run(argv: Sequence[str], directory: Path) -> None:
    """A program to its end. Raises Failed."""
    done = subprocess.run(argv, cwd=directory, capture_output=True, text=True, timeout=_START_SECONDS, check=False)
    if done.returncode:
        raise Failed(f"{argv[0]}: {done.stderr.strip()[-_WORDS:]}")
