"""Chart and values to objects: a pure function, computed by a long-lived helper that renders as Helm does.

A ``helm`` process for each render costs some 80 ms; the helper loads the chart once and answers line by line.
"""

from tenantry_operator.render.helm import HelmRenderer
from tenantry_operator.render.renderer import Objects, Renderer, RenderError

__all__ = ["HelmRenderer", "Objects", "RenderError", "Renderer"]
