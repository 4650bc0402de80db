{{- define "model-service.name" -}}
{{ printf "%s-v%v" (.Values.model | replace "_" "-") (int .Values.version) }}
{{- end }}

{{- define "model-service.selector" -}}
app.kubernetes.io/name: model-service
app.kubernetes.io/instance: {{ .Release.Name }}
headrace.dev/model: {{ .Values.model }}
headrace.dev/version: {{ int .Values.version | quote }}
{{- end }}

{{- define "model-service.labels" -}}
{{ include "model-service.selector" . }}
app.kubernetes.io/version: {{ int .Values.version | quote }}
app.kubernetes.io/component: serving
app.kubernetes.io/part-of: headrace
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "model-service.metadata" -}}
name: {{ .Release.Name }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "model-service.labels" . | nindent 2 }}
{{- end }}

{{- define "model-service.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "model-service.storeEnvironment" -}}
- {name: AWS_REGION, value: {{ .Values.store.region | quote }}}
- {name: AWS_EC2_METADATA_DISABLED, value: "true"}
{{- with .Values.store.endpoint }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- with .Values.store.secret }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom: {secretKeyRef: {name: {{ $.Values.store.secret | quote }}, key: {{ . }}}}
{{- end }}
{{- end }}
{{- end }}

{{- /* Where a peer of the NetworkPolicy is: pods of a namespace, or addresses. */ -}}
{{- define "model-service.peers" -}}
{{- range .ipBlocks }}
- ipBlock: {cidr: {{ . | quote }}}
{{- else }}
- namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ .namespace | quote }}}}
  podSelector: {matchLabels: {{ toJson .podLabels }}}
{{- end }}
{{- end }}
