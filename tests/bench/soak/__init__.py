"""The soak of the proxy: `make soak-proxy`. Mixed load with faults, then proof that nothing is left of it.

`scenarios` is what clients do and upstreams suffer, `verdict` the law that must hold at the end (pure), `__main__` runs
both against a service and a simulator in processes of their own.
"""
