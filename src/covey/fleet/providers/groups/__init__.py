"""Pools made of instance groups: AWS Auto Scaling groups, Azure scale sets, GCP managed instance groups.

One agent to an instance. The three clouds differ in names and errors, not in kind: `api.GroupApi` is what each must
answer, `pool.GroupPool` is the one provider above it.
"""
