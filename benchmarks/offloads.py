"""Turns off what makes super-packets of a network device: `python -m benchmarks.offloads DEVICE...`.

As `ethtool -K DEVICE tx-udp-segmentation off tso off gro off`, for machines without ethtool. A filter behind such a
device sees, and drops, single packets (PROTOCOL 38).
"""

from __future__ import annotations

import array
import fcntl
import re
import socket
import struct
import sys

__all__ = ["features", "turn_off"]

_SIOCETHTOOL = 0x8946
# linux/ethtool.h
_GET_STRINGS = 0x1B
_GET_STRING_COUNT = 0x37
_GET_FEATURES = 0x3A
_SET_FEATURES = 0x3B
_FEATURE_NAMES = 4
_NAME_SIZE = 32
SUPER_PACKETS = re.compile(r"tx-udp-segmentation|tx-tcp.*-segmentation|rx-gro")


def features(device: str) -> dict[str, bool]:
    """Every feature of a device, and whether it is active. OSError."""
    names = _names(device)
    words = (len(names) + 31) // 32
    found = _ask(device, struct.pack(f"II{16 * words}x", _GET_FEATURES, words))
    active = [struct.unpack_from("I", found, 8 + 16 * word + 8)[0] for word in range(words)]
    return {name: bool(active[number // 32] >> number % 32 & 1) for number, name in enumerate(names)}


def turn_off(device: str, pattern: re.Pattern[str] = SUPER_PACKETS) -> None:
    """Turns off the features whose whole name matches. OSError."""
    names = _names(device)
    words = [0] * ((len(names) + 31) // 32)
    for number, name in enumerate(names):
        if pattern.fullmatch(name):
            words[number // 32] |= 1 << number % 32
    blocks = b"".join(struct.pack("II", word, 0) for word in words)  # which are meant; what they shall be
    _ask(device, struct.pack("II", _SET_FEATURES, len(words)) + blocks)


def _names(device: str) -> list[str]:
    counted = _ask(device, struct.pack("IIQI", _GET_STRING_COUNT, 0, 1 << _FEATURE_NAMES, 0))
    (count,) = struct.unpack_from("I", counted, 16)
    found = _ask(device, struct.pack(f"III{_NAME_SIZE * count}x", _GET_STRINGS, _FEATURE_NAMES, count))
    starts = range(12, 12 + _NAME_SIZE * count, _NAME_SIZE)
    return [found[start : start + _NAME_SIZE].split(b"\0")[0].decode() for start in starts]


def _ask(device: str, command: bytes) -> bytes:
    """The kernel's answer, in the bytes of the question."""
    memory = array.array("B", command)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, struct.pack("16sP16x", device.encode(), memory.buffer_info()[0]))
    return memory.tobytes()


if __name__ == "__main__":
    for each in sys.argv[1:]:
        turn_off(each)
