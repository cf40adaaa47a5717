"""The key schedule as terms, and what an attacker can compute of it: symbolic, complete for what it models.

Secrets are atoms: private keys, the psk, and what each side of an encapsulation holds. A DH value is a pair of private
keys of which one is enough, the public halves being known to everybody; a derived key needs all of its inputs; a chain
that was stolen is known as such. Cryptography is perfect; to a quantum attacker every Diffie-Hellman key is known. The
terms are built from the same table of tokens that the code runs on (`covey.crypto.noise.PATTERNS`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from covey.crypto.noise import PATTERNS

__all__ = ["Anyone", "Derived", "Schedule", "Term", "breaking_sets", "schedule"]


@dataclass(frozen=True)
class Anyone:
    """Known to whoever holds one of these: a DH value, an encapsulated secret."""

    holders: frozenset[str]


@dataclass(frozen=True)
class Derived:
    """Known to whoever knows every input, or has stolen it by its name."""

    name: str
    inputs: tuple[Term, ...]


Term = Anyone | Derived
_DH = {"ee": ("e_i", "e_r"), "es": ("e_i", "s_r"), "se": ("s_i", "e_r"), "ss": ("s_i", "s_r")}


@dataclass(frozen=True)
class Schedule:
    """Keys of one handshake and its ratchets."""

    mixed: tuple[str, ...]
    """The tokens whose secrets enter the chaining key, in order."""
    payloads: tuple[Term, ...]
    """The key of each message's payload."""
    epochs: tuple[Term, ...]
    """The packet keys of each epoch."""


def schedule(pattern: str, *, psk: bool, ratchets: int = 2) -> Schedule:
    """`psk`: a secret one; without, it is the public zeros of a handshake outside every enclave."""
    chaining: Term = Derived("start", ())
    mixed: list[str] = []
    payloads: list[Term] = []
    for tokens in PATTERNS[pattern].messages:
        for token in tokens:
            if token in _DH:
                chaining = Derived("ck", (chaining, _one_of(*_DH[token])))
                mixed.append(token)
            elif token == "psk":
                mixed.append(token)
                if psk:
                    chaining = Derived("ck", (chaining, _one_of("psk")))
        payloads.append(chaining)
    chain: Term = Derived("chain_0", (chaining,))
    epochs: list[Term] = [Derived("keys_0", (chaining,))]
    for number in range(1, ratchets + 1):
        exchanged, encapsulated = (_one_of(f"{kind}_i{number}", f"{kind}_r{number}") for kind in ("x", "kem"))
        chain = Derived(f"chain_{number}", (chain, exchanged, encapsulated))
        epochs.append(Derived(f"keys_{number}", (chain,)))
    return Schedule(tuple(mixed), tuple(payloads), tuple(epochs))


def breaking_sets(target: Term, *, given: Iterable[str] = (), quantum: bool = False) -> set[frozenset[str]]:
    """The smallest sets of secrets that, with those `given`, let somebody compute `target`. {{}}: nothing is missing.

    Every subset of the secrets in question is tried, smallest first.
    """
    known = frozenset(given) | frozenset(atom for atom in _atoms(target) if quantum and not _survives_quantum(atom))
    rest = sorted(_atoms(target) - known)
    found: set[frozenset[str]] = set()
    for size in range(len(rest) + 1):
        for chosen in map(frozenset, combinations(rest, size)):
            if not any(smaller <= chosen for smaller in found) and _computes(target, known | chosen):
                found.add(chosen)
    return found


def _one_of(*holders: str) -> Anyone:
    return Anyone(frozenset(holders))


def _survives_quantum(atom: str) -> bool:
    return atom == "psk" or atom.startswith("kem")


def _computes(target: Term, known: frozenset[str]) -> bool:
    if isinstance(target, Anyone):
        return bool(target.holders & known)
    return target.name in known or all(_computes(each, known) for each in target.inputs)


def _atoms(target: Term) -> frozenset[str]:
    if isinstance(target, Anyone):
        return target.holders
    return frozenset().union(*map(_atoms, target.inputs))
