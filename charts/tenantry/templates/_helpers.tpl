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
{{ .Values.redis.secret }}
{{- end }}

{{- define "tenantry.databaseSecret" -}}
{{ .Values.database.secret }}
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
