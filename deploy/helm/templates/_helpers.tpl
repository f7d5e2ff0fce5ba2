{{- define "tollgate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "tollgate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "tollgate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tollgate.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "tollgate.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tollgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tollgate.labels" -}}
{{ include "tollgate.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "tollgate.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "tollgate.policies.name" -}}
{{- if .Values.policies.existingConfigMap -}}
{{- if .Values.policies.files }}{{ fail "set one of policies.files and policies.existingConfigMap, not both" }}{{ end -}}
{{- .Values.policies.existingConfigMap }}
{{- else -}}
{{- if not .Values.policies.files }}{{ fail "set policies.files, with a file for each domain, or policies.existingConfigMap" }}{{ end -}}
{{- printf "%s-policies" (include "tollgate.fullname" .) }}
{{- end }}
{{- end }}

{{/* The ConfigMap with files of alerts; empty without them. */}}
{{- define "tollgate.alertFiles.name" -}}
{{- with .Values.alertFiles -}}
{{- if and .files .existingConfigMap }}{{ fail "set one of alertFiles.files and alertFiles.existingConfigMap, not both" }}{{ end -}}
{{- if and .existingSecret (not (or .files .existingConfigMap)) }}{{ fail "alertFiles.existingSecret needs alertFiles.files or alertFiles.existingConfigMap" }}{{ end -}}
{{- if or .files .existingConfigMap -}}
{{- if or (hasKey $.Values.settings "alerts") (hasKey $.Values.sidecar.settings "alerts") }}{{ fail "set one of alertFiles and settings.alerts, not both" }}{{ end -}}
{{- .existingConfigMap | default (printf "%s-alerts" (include "tollgate.fullname" $)) }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* A setting's value as text. Numbers keep their digits: 1000000, not 1e+06. */}}
{{- define "tollgate.setting" -}}
{{- if kindIs "slice" . }}{{ join "," . }}{{ else if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{/* The container's variables. `root`, `grpc` (the address of gRPC) and `settings`. */}}
{{- define "tollgate.env" -}}
{{- $values := .root.Values -}}
- { name: TOLLGATE_POLICIES, value: /etc/tollgate/policies }
- { name: TOLLGATE_GRPC_ADDRESS, value: {{ printf "%s:%v" .grpc $values.ports.grpc | quote }} }
- { name: TOLLGATE_HTTP_ADDRESS, value: {{ printf "%s:%v" $values.listenAddress $values.ports.http | quote }} }
{{- if include "tollgate.alertFiles.name" .root }}
- { name: TOLLGATE_ALERTS, value: /etc/tollgate/alerts }
{{- end }}
{{- with $values.redis }}
{{- if .url }}
- { name: TOLLGATE_REDIS_URL, value: {{ .url | quote }} }
{{- if .existingSecret }}
- { name: TOLLGATE_REDIS_PASSWORD_FILE, value: {{ printf "/etc/tollgate/redis/%s" .passwordKey | quote }} }
{{- end }}
{{- if .tls.existingSecret }}
{{- if not (hasPrefix "rediss://" .url) }}{{ fail "redis.tls needs a redis.url that begins with rediss://" }}{{ end }}
- { name: TOLLGATE_REDIS_TLS_CA_FILE, value: /etc/tollgate/redis-tls/ca.crt }
{{- if .tls.clientCertificate }}
- { name: TOLLGATE_REDIS_TLS_CERT_FILE, value: /etc/tollgate/redis-tls/tls.crt }
- { name: TOLLGATE_REDIS_TLS_KEY_FILE, value: /etc/tollgate/redis-tls/tls.key }
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with $values.grpcTls }}
{{- if .existingSecret }}
- { name: TOLLGATE_GRPC_TLS_CERT_FILE, value: /etc/tollgate/grpc-tls/tls.crt }
- { name: TOLLGATE_GRPC_TLS_KEY_FILE, value: /etc/tollgate/grpc-tls/tls.key }
{{- if .requireClientCertificate }}
- { name: TOLLGATE_GRPC_TLS_CLIENT_CA_FILE, value: /etc/tollgate/grpc-tls/ca.crt }
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $value := .settings }}
- { name: {{ printf "TOLLGATE_%s" (upper $name) }}, value: {{ include "tollgate.setting" $value | quote }} }
{{- end }}
{{- with $values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Whole volumes are mounted: files mounted by subPath are never updated. */}}
{{- define "tollgate.volumeMounts" -}}
- { name: tollgate-policies, mountPath: /etc/tollgate/policies, readOnly: true }
{{- if include "tollgate.alertFiles.name" . }}
- { name: tollgate-alerts, mountPath: /etc/tollgate/alerts, readOnly: true }
{{- if .Values.alertFiles.existingSecret }}
- { name: tollgate-alert-secrets, mountPath: /etc/tollgate/alert-secrets, readOnly: true }
{{- end }}
{{- end }}
{{- if .Values.redis.url }}
{{- if .Values.redis.existingSecret }}
- { name: tollgate-redis, mountPath: /etc/tollgate/redis, readOnly: true }
{{- end }}
{{- if .Values.redis.tls.existingSecret }}
- { name: tollgate-redis-tls, mountPath: /etc/tollgate/redis-tls, readOnly: true }
{{- end }}
{{- end }}
{{- if .Values.grpcTls.existingSecret }}
- { name: tollgate-grpc-tls, mountPath: /etc/tollgate/grpc-tls, readOnly: true }
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* `root` and `mode`: the mode of the files of Secrets. */}}
{{- define "tollgate.volumes" -}}
{{- $values := .root.Values -}}
- name: tollgate-policies
  configMap: { name: {{ include "tollgate.policies.name" .root }} }
{{- with include "tollgate.alertFiles.name" .root }}
- name: tollgate-alerts
  configMap: { name: {{ . }} }
{{- with $values.alertFiles.existingSecret }}
- name: tollgate-alert-secrets
  secret: { secretName: {{ . }}, defaultMode: {{ $.mode }} }
{{- end }}
{{- end }}
{{- if $values.redis.url }}
{{- with $values.redis.existingSecret }}
- name: tollgate-redis
  secret: { secretName: {{ . }}, defaultMode: {{ $.mode }} }
{{- end }}
{{- with $values.redis.tls.existingSecret }}
- name: tollgate-redis-tls
  secret: { secretName: {{ . }}, defaultMode: {{ $.mode }} }
{{- end }}
{{- end }}
{{- with $values.grpcTls.existingSecret }}
- name: tollgate-grpc-tls
  secret: { secretName: {{ . }}, defaultMode: {{ $.mode }} }
{{- end }}
{{- with $values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tollgate.securityContext" -}}
runAsNonRoot: true
runAsUser: 65534
runAsGroup: 65534
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{/*
The probes. Ready if policies are loaded and Tollgate is not draining. It stays ready if Redis is unavailable: otherwise
all replicas would become unready at once, and `on_outage` could not apply.
*/}}
{{- define "tollgate.startupAndLiveness" -}}
startupProbe:
  httpGet: { path: /readyz, port: tollgate-http }
  periodSeconds: 1
  failureThreshold: 30
livenessProbe:
  httpGet: { path: /livez, port: tollgate-http }
  periodSeconds: 10
{{- end }}
