"""What is generated from the code: docs/reference and Grafana's dashboards.

``python -m generator`` (with docs/ on PYTHONPATH; ``make reference``) writes them; with ``--check`` it fails where a
file differs.
"""
