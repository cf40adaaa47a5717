from __future__ import annotations

import pytest

from covey.fleet.placing.shapes import architecture, special

NAMES = {
    "m7g.large": ("arm64", ()),
    "c6gn.16xlarge": ("arm64", ()),
    "a1.medium": ("arm64", ()),
    "t4g.nano": ("arm64", ("burstable",)),
    "t3.micro": ("amd64", ("burstable",)),
    "m5.metal": ("amd64", ("bare-metal",)),
    "m7i.metal-24xl": ("amd64", ("bare-metal",)),
    "g5.xlarge": ("amd64", ()),
    "m7i-flex.large": ("amd64", ()),
    "Standard_D4ps_v5": ("arm64", ()),
    "Standard_D4s_v5": ("amd64", ()),
    "Standard_B2ms": ("amd64", ("burstable",)),
    "t2a-standard-4": ("arm64", ()),
    "n2-standard-4": ("amd64", ()),
    "e2-medium": ("amd64", ("burstable",)),
    "c3-standard-192-metal": ("amd64", ("bare-metal",)),
    "process": ("amd64", ()),
}


@pytest.mark.parametrize("name", NAMES)
def test_shape_says_architecture_and_kind(name: str) -> None:
    assert (architecture(name), special(name)) == NAMES[name]
