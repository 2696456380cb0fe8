{{- /* On which nodes the pods run. Karpenter and EKS managed node groups label capacity differently; terms of a
       nodeAffinity are alternatives, expressions within a term all have to hold. A node with neither label counts as
       on-demand. */ -}}
{{- define "tenant.placement" -}}
{{- $capacity := .Values.placement.capacity -}}
{{- $arch := list -}}
{{- with .Values.placement.architectures -}}
{{- $arch = list (dict "key" "kubernetes.io/arch" "operator" "In" "values" (sortAlpha .)) -}}
{{- end -}}
{{- $karpenter := dict "key" "karpenter.sh/capacity-type" "operator" "In" "values" (list "spot") -}}
{{- $eks := dict "key" "eks.amazonaws.com/capacityType" "operator" "In" "values" (list "SPOT") -}}
{{- $terms := list -}}
{{- if eq $capacity "Spot" -}}
{{- $terms = list (dict "matchExpressions" (append $arch $karpenter)) (dict "matchExpressions" (append $arch $eks)) -}}
{{- else if eq $capacity "OnDemand" -}}
{{- $never := list (set $karpenter "operator" "NotIn") (set $eks "operator" "NotIn") -}}
{{- $terms = list (dict "matchExpressions" (concat $arch $never)) -}}
{{- else if $arch -}}
{{- $terms = list (dict "matchExpressions" $arch) -}}
{{- end -}}
{{- if or $terms (eq $capacity "SpotPreferred") }}
affinity:
  nodeAffinity:
    {{- with $terms }}
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms: {{ toJson . }}
    {{- end }}
    {{- if eq $capacity "SpotPreferred" }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        preference:
          matchExpressions: {{ list $karpenter | toJson }}
      - weight: 100
        preference:
          matchExpressions: {{ list $eks | toJson }}
    {{- end }}
{{- end }}
{{- /* A node that has died without a word: replaced after 30 s of Kubernetes' silence about it, not after its default of
       300, also while no operator hands over. */}}
tolerations:
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
{{- if ne $capacity "OnDemand" }}
  - {key: karpenter.sh/capacity-type, operator: Exists, effect: NoSchedule}
  - {key: eks.amazonaws.com/capacityType, operator: Exists, effect: NoSchedule}
{{- end }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tenant.pool" $ | nindent 8 }}
  {{- end }}
{{- end }}
