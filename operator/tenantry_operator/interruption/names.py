"""Labels, annotations and taints of nodes and pods on their way out: ours, and those that others are known by."""

from tenantry_operator.api.meta import GROUP
from tenantry_operator.plan.names import HANDOVER_PREFIX

# Ours, on nodes.

#: What is known of the node's end (``signals.Mark`` as JSON). Written by the operator.
INTERRUPTION = f"{GROUP}/interruption"
#: The same as the node's own agent sees it. Written by the agent, on its own Node only.
AGENT_NOTICE = f"{GROUP}/agent-notice"
#: Keeps replacements off the node.
LEAVING_TAINT = f"{GROUP}/leaving"

# Ours, on pods.

#: Values of the labels ``plan.names.POOL_LABEL`` and ``SERVE_LABEL``.
DRAINING, NO = "draining", "no"
#: Why the pod is handed over (``signals.Kind``), since when, and when its node ends, if that is known.
HANDOVER = HANDOVER_PREFIX
SINCE = f"{HANDOVER_PREFIX}-since"
DEADLINE = f"{HANDOVER_PREFIX}-deadline"
#: When the pod itself ends what is still open, with a well-formed last event. Mounted into the pod.
STREAMS_END = f"{GROUP}/streams-end-at"
#: When it was taken out of the Service.
RELEASED = f"{HANDOVER_PREFIX}-released"

# Others'.

#: Karpenter neither evicts the pod nor ends its node for the node's own sake
#: (https://karpenter.sh/docs/concepts/disruption/#pod-level-controls).
DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"
