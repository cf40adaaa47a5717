"""One target under libFuzzer, which takes the process over: `python -m tests.fuzz.guided TARGET [libFuzzer's options]`.

Covey alone is instrumented: branches of the standard library would drown its own.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["covey"]):
    from tests.fuzz.targets import TARGETS, sampled


def main() -> None:
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, sampled(TARGETS[name]))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
