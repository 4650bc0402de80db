{{- /* What tells the pods of this release from all others. */ -}}
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
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end }}

{{- define "model-service.metadata" -}}
name: {{ .Release.Name }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "model-service.labels" . | nindent 2 }}
{{- end }}

{{- /* What both containers have in common. */ -}}
{{- define "model-service.container" -}}
image: {{ .Values.image | quote }}
imagePullPolicy: {{ .Values.imagePullPolicy }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "model-service.storeEnvironment" -}}
- {name: AWS_REGION, value: {{ .Values.store.region | quote }}}
{{- with .Values.store.endpoint }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
# No credentials but those of the Secret: the library would ask the node for its own.
- {name: AWS_EC2_METADATA_DISABLED, value: "true"}
{{- with .Values.store.secret }}
{{- range $key := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ $key }}
  valueFrom: {secretKeyRef: {name: {{ $.Values.store.secret | quote }}, key: {{ $key }}}}
{{- end }}
{{- end }}
{{- end }}
