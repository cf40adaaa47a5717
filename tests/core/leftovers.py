"""A program for `test_secrets.py`: two endpoints that ratchet, and the hex of every key they ever had on its output.

The output is hex so that nothing but the code under test ever holds the bytes themselves.
"""

from __future__ import annotations

import sys
from typing import Any

from covey.core import epochs
from covey.core.limits import Lifetimes
from tests.core.pair import Chatter, Wire, admit


def tell(kind: str, value: bytes | bytearray) -> None:
    sys.stdout.write(f"{kind} {value.hex()}\n")


def listen() -> None:
    """Has every secret told as it is made."""
    next_chain, epoch_keys, chain_0 = epochs.next_chain, epochs.epoch_keys, epochs.chain_0
    init = epochs.Epochs.__init__

    def told_next_chain(chain: bytearray, dh: bytes, ss: bytes, *rest: Any) -> bytearray:
        tell("dh", dh)
        tell("ss", ss)
        made = next_chain(chain, dh, ss, *rest)
        tell("chain", made)
        return made

    def told_epoch_keys(chain: bytearray) -> tuple[bytearray, bytearray]:
        keys = epoch_keys(chain)
        for key in keys:
            tell("key", key)
        return keys

    def told_init(self: epochs.Epochs, *, keys: tuple[bytes, bytes], **rest: Any) -> None:
        for key in keys:
            tell("key", key)
        init(self, keys=keys, **rest)

    def told_chain_0(chaining_key: bytes) -> bytearray:
        made = chain_0(chaining_key)
        tell("ck", chaining_key)
        tell("chain", made)
        return made

    epochs.next_chain, epochs.epoch_keys, epochs.chain_0 = told_next_chain, told_epoch_keys, told_chain_0
    epochs.Epochs.__init__ = told_init  # type: ignore[method-assign]


def main() -> None:
    """Epochs 0 to 5, then the overlap of the last two. With `ended`: then the session ends, too."""
    listen()
    wire = Wire(1, lifetimes=Lifetimes(rekey_bytes=20_000))
    a, b = wire.side("a"), wire.side("b")
    for side in (a, b):
        side.on_event = admit
    a.connect(b)
    wire.run(2)
    chatter = Chatter(wire, a, b, pause=0.2)
    while a.connection(b).session.epochs.epoch < 5:
        wire.run(1)
    chatter.stop()
    wire.run(11)
    if sys.argv[1:] == ["ended"]:
        a.endpoint.close(wire.now, a.connection(b))
        wire.run(1)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    main()
