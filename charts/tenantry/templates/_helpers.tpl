{{- /* Cluster-wide objects have fixed names: there is one platform per cluster. */ -}}
{{- define "tenantry.labels" -}}
app.kubernetes.io/name: tenantry
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: tenantry
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- /* Repository and tag (or digest) as one reference. Call with (dict "repository" R "tag" T). */ -}}
{{- define "tenantry.reference" -}}
{{- $separator := hasPrefix "sha256:" .tag | ternary "@" ":" -}}
{{ .repository }}{{ $separator }}{{ .tag }}
{{- end }}

{{- define "tenantry.image" -}}
{{- include "tenantry.reference" (dict "repository" .Values.image.repository "tag" (.Values.image.tag | default .Chart.AppVersion)) -}}
{{- end }}

{{- define "tenantry.tenantImage" -}}
{{- $image := .Values.tenantDefaults.image -}}
{{- $repository := $image.repository | default .Values.image.repository -}}
{{- $tag := $image.tag | default .Values.image.tag | default .Chart.AppVersion -}}
{{- include "tenantry.reference" (dict "repository" $repository "tag" $tag) -}}
{{- end }}

{{- /* Names of the Secrets with the datastores' URLs; empty: there is none. */ -}}
{{- define "tenantry.redisSecret" -}}
{{ .Values.redis.secret | default (ternary "tenantry-redis" (ternary "dev-redis" "" .Values.dev.datastores.enabled) .Values.redis.create) }}
{{- end }}

{{- define "tenantry.databaseSecret" -}}
{{ .Values.database.secret | default (ternary "dev-postgres" "" .Values.dev.datastores.enabled) }}
{{- end }}

{{- /* Tolerations of what others need to be there, before those of the values: a node that has died without a word keeps
       them for 30 s, not for Kubernetes' default of 300. */ -}}
{{- define "tenantry.tolerations" -}}
tolerations:
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
  {{- with . }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "tenantry.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "tenantry.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "tenantry.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* The pod of a hook. Call with (dict "root" $ "account" SERVICEACCOUNT "args" ARGUMENTS). */ -}}
{{- define "tenantry.hookJob" -}}
backoffLimit: 3
activeDeadlineSeconds: 240
template:
  metadata:
    labels:
      app.kubernetes.io/name: tenantry
      app.kubernetes.io/component: hook
  spec:
    restartPolicy: Never
    serviceAccountName: {{ .account }}
    enableServiceLinks: false
    {{- include "tenantry.pullSecrets" .root | nindent 4 }}
    securityContext:
      {{- include "tenantry.podSecurity" 65532 | nindent 6 }}
    {{- with .root.Values.operator.nodeSelector }}
    nodeSelector:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .root.Values.operator.tolerations }}
    tolerations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    containers:
      - name: hook
        image: {{ include "tenantry.image" .root | quote }}
        imagePullPolicy: {{ .root.Values.image.pullPolicy }}
        args: {{ .args | toJson }}
        securityContext:
          {{- include "tenantry.containerSecurity" . | nindent 10 }}
        resources:
          requests: {cpu: 50m, memory: 96Mi}
          limits: {memory: 256Mi}
        volumeMounts:
          - {name: tmp, mountPath: /tmp}
    volumes:
      - name: tmp
        emptyDir: {sizeLimit: 64Mi}
{{- end }}

{{- /* What the operator is told of the ways to its tenants. */ -}}
{{- define "tenantry.exposure" -}}
{{- $exposure := .Values.exposure -}}
- --expose={{ eq $exposure.type "Service" | ternary "None" $exposure.type }}
{{- if eq $exposure.type "Gateway" }}
- --gateway={{ include "tenantry.gatewayNamespace" . }}/{{ .Values.gateway.name }}{{ with .Values.gateway.sectionName }}/{{ . }}{{ end }}
- {{ printf "--gateway-url=%s" $exposure.url | quote }}
{{- end }}
{{- if eq $exposure.type "Ingress" }}
{{- with .Values.ingress.className }}
- --ingress-class={{ . }}
{{- end }}
{{- range $name, $value := .Values.ingress.annotations }}
- {{ printf "--ingress-annotation=%s=%s" $name $value | quote }}
{{- end }}
{{- with .Values.ingress.tlsSecretName }}
- --ingress-tls-secret={{ . }}
{{- end }}
{{- end }}
{{- range $exposure.forwardingNamespaces }}
- --forwarding-namespace={{ . }}
{{- end }}
{{- end }}

{{- define "tenantry.gatewayNamespace" -}}
{{ .Values.gateway.create | ternary .Release.Namespace (.Values.gateway.namespace | default .Release.Namespace) }}
{{- end }}
