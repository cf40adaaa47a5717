"""What a machine does with Covey, beside raw TCP and asyncio's TLS on the same cores in the same run.

`python -m covey.bench` prints JSON; `covey bench` shows it. Figures of a network are ratios or they are nothing: the
machine, the kernel and the neighbours change, the ratio to a baseline of the same minute hardly does. Both ends are
processes of their own on loopback; baseline and Covey alternate on the same cores, several times, and a row gives the
median with the range. The repository's `benchmarks` measures more, between network namespaces, with the same parts.
"""
