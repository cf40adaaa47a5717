"""Small price tables in the real formats, made here."""

from __future__ import annotations

from pathlib import Path

import pytest

LISTED = """cloud,region,instance_type,vcpu,mem_gib,gpu,arch,price_usd_h,spot_usd_h
aws,us-east-1,m5a.xlarge,4,16.0,0,amd64,0.172,
aws,us-east-1,m6g.xlarge,4,16.0,0,arm64,0.154,
aws,us-east-1,t3a.xlarge,4,16.0,0,amd64,0.15,
aws,us-east-1,g4dn.xlarge,4,16.0,1,amd64,0.526,
aws,eu-west-1,m5a.xlarge,4,16.0,0,amd64,0.192,
azure,eastus,Standard_D4as_v5,4,16.0,0,amd64,0.172,
azure,eastus,Standard_B4ms,4,16.0,0,amd64,0.12,
gcp,us-east4,e2-standard-4,4,16.0,0,,0.151,0.08
gcp,us-east4,n2-standard-4,4,16.0,0,,0.2,0.05
gcp,us-east4,t2a-standard-4,4,16.0,0,,0.1,0.02
gcp,us-east4,n2-standard-8,8,32.0,0,,0.1,0.02
"""

HISTORY = """commit_time,region,instance_type,on_demand,spot
2026-05-05T10:39:28+02:00,us-east4,n2-standard-4,0.2,0.045
2026-06-01T01:00:00+00:00,us-east4,n2-standard-4,0.2,0.048
"""


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    folder = tmp_path / "prices"
    folder.mkdir()
    (folder / "ondemand.csv").write_text(LISTED)
    (folder / "spot_history.csv").write_text(HISTORY)
    (folder / "aws_egress.csv").write_text("src,dst,cost\nus-east-1,internet,0.09\n")
    return folder


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """An hour: 10, then 30, then 10 requests per second."""
    path = tmp_path / "hour.csv"
    path.write_text("second,count\n" + "".join(f"{t},{30 if 1200 <= t < 2400 else 10}\n" for t in range(3600)))
    path.with_suffix(".toml").write_text("rate_per_agent = 1\nmin = 4\n")
    return path
