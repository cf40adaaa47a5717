"""Fail when a test was skipped: on the machine of CI every test can run, so a skip is a hole.

    python scripts/ci_skips.py build/junit.xml

Expected failures are not skips: they are strict, run, and carry their reason.
Exit status: 0 none skipped, 1 some, 2 no report.
"""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def main(path: Path) -> int:
    """Print each skipped test of a junit report with its reason; return the exit status."""
    try:
        cases = list(ET.parse(path).iter("testcase"))  # noqa: S314  our own pytest wrote it a moment ago
    except (OSError, ET.ParseError) as error:
        print(f"ci: no report of the tests at {path}: {error}")
        return 2
    marks = [(case, mark) for case in cases for mark in case.iter("skipped")]
    skips = [(case, mark) for case, mark in marks if mark.get("type") != "pytest.xfail"]
    for case, mark in skips:
        print(f"ci: skipped {case.get('classname')}::{case.get('name')}: {mark.get('message')}")
    print(f"ci: {len(cases)} tests, {len(skips)} skipped")
    return 1 if skips else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
