{{- /* Where everything of this tenant lives. */ -}}
{{- define "tenant.namespace" -}}
{{ .Values.namespace.name | default .Release.Namespace }}
{{- end }}

{{- /* The part of every object's metadata that is the same. Call with (dict "root" $ "name" NAME). */ -}}
{{- define "tenant.metadata" -}}
name: {{ .name }}
namespace: {{ include "tenant.namespace" .root }}
labels:
  {{- include "tenant.labels" .root | nindent 2 }}
{{- end }}

{{- define "tenant.labels" -}}
app.kubernetes.io/name: tenantry-api
app.kubernetes.io/part-of: tenantry
app.kubernetes.io/managed-by: {{ .Release.Service }}
tenantry.dev/tenant: {{ .Values.tenant.name | quote }}
{{- range $key, $value := .Values.labels }}
{{ $key }}: {{ $value | quote }}
{{- end }}
{{- end }}

{{- /* What Deployment and PodDisruptionBudget call their pods. A pod that is handed over leaves the pool first, and
       goes on serving until tenantry.dev/serve is taken from it. */ -}}
{{- define "tenant.pool" -}}
app.kubernetes.io/name: tenantry-api
tenantry.dev/pool: active
{{- end }}

{{- /* Peers of a NetworkPolicy: all pods of these namespaces. */ -}}
{{- define "tenant.namespaces" -}}
- namespaceSelector:
    matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
{{- end }}

{{- define "tenant.image" -}}
{{- $separator := hasPrefix "sha256:" .Values.image.tag | ternary "@" ":" -}}
{{ .Values.image.repository }}{{ $separator }}{{ .Values.image.tag }}
{{- end }}

{{- /* "true" where an HPA decides on the number of pods: wherever there may be more than one. It keeps a fixed number
       (minReplicas equal to maxReplicas) without any metric, and widening that touches no Deployment. */ -}}
{{- define "tenant.scales" -}}
{{- $scaling := .Values.autoscaling -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas is %d, autoscaling.maxReplicas is %d: lower the one or raise the other" (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- and $scaling.enabled (not .Values.suspend.traffic) (gt (int $scaling.maxReplicas) 1) -}}
{{- end }}

{{- /* A quantity as an integer of thousandths of its unit, rounded up. */ -}}
{{- define "tenant.milli" -}}
{{- $text := toString . -}}
{{- $suffix := regexFind "[a-zA-Z]*$" $text -}}
{{- $factor := get (dict "m" 1 "" 1000 "k" 1000000 "M" 1000000000 "G" 1000000000000 "T" 1000000000000000 "Ki" 1024000 "Mi" 1048576000 "Gi" 1073741824000 "Ti" 1099511627776000) $suffix -}}
{{- mulf (float64 (trimSuffix $suffix $text)) $factor | ceil | int64 -}}
{{- end }}

{{- /* The other way round, spelled as the API server spells it, so that what is stored equals what was applied. */ -}}
{{- define "tenant.quantity" -}}
{{- $milli := int64 . -}}
{{- if mod $milli 1000 -}}
{{ $milli }}m
{{- else -}}
{{- $value := div $milli 1000 -}}
{{- $spelled := toString $value -}}
{{- $binary := list (list 1024 "Ki") (list 1048576 "Mi") (list 1073741824 "Gi") (list 1099511627776 "Ti") -}}
{{- $decimal := list (list 1000 "k") (list 1000000 "M") (list 1000000000 "G") (list 1000000000000 "T") -}}
{{- range $unit := eq (mod $value 1024) 0 | ternary $binary $decimal -}}
{{- $size := int64 (first $unit) -}}
{{- if and $value (not (mod $value $size)) -}}
{{- $spelled = printf "%d%s" (div $value $size) (last $unit) -}}
{{- end -}}
{{- end -}}
{{ $spelled }}
{{- end -}}
{{- end }}

{{- /* A quota: what the pods need, or what the values ask for where that is more.
       Call with (dict "pods" COUNT "each" QUANTITY "asked" QUANTITY-or-nil). */ -}}
{{- define "tenant.total" -}}
{{- $needed := mul (int64 .pods) (include "tenant.milli" .each | int64) -}}
{{- $asked := .asked | default 0 | include "tenant.milli" | int64 -}}
{{- include "tenant.quantity" (max $needed $asked) -}}
{{- end }}
