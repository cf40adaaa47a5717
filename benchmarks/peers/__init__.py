"""Rivals for `--peers`: what else a program could use, each in its best documented configuration, for the same jobs.

`catalogue` names them, fetches what they need and starts what must run beside the two ends. The other modules are
speakers, loaded in their own two processes only: what they import stands in a cache (`benchmarks.install`) and
nowhere else. What this environment has itself comes first.
"""

import site

from benchmarks.install import wheel_directories

for _directory in wheel_directories():
    site.addsitedir(str(_directory))
