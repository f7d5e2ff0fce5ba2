{{/*
Tollgate as a sidecar container (an init container with `restartPolicy: Always`, Kubernetes 1.29 and later). In a chart that
has this one as its dependency `tollgate`:

  initContainers:
    {{- include "tollgate.sidecar.container" .Subcharts.tollgate | nindent 4 }}
  volumes:
    {{- include "tollgate.sidecar.volumes" .Subcharts.tollgate | nindent 4 }}

Put it before Envoy: sidecars start in this order, and stop after the application, in reverse order.
*/}}
{{- define "tollgate.sidecar.container" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- range $name, $value := .Values.sidecar.settings }}{{ $_ := set $settings $name $value }}{{ end -}}
- name: tollgate
  image: {{ include "tollgate.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  env:
    {{- include "tollgate.env" (dict "root" . "grpc" .Values.sidecar.grpcAddress "settings" $settings) | nindent 4 }}
  ports:
    - { name: tollgate-http, containerPort: {{ .Values.ports.http }} }
  {{- /* No readiness probe: without Tollgate the pod stays ready, and Envoy's `failure_mode_deny` decides. */}}
  {{- include "tollgate.startupAndLiveness" . | nindent 2 }}
  resources: {{- toYaml .Values.sidecar.resources | nindent 4 }}
  securityContext: {{- include "tollgate.securityContext" . | nindent 4 }}
  volumeMounts:
    {{- include "tollgate.volumeMounts" . | nindent 4 }}
{{- end }}

{{/* Its volumes. The pod's group is not known here, so Secrets are readable by every user of the containers that mount them. */}}
{{- define "tollgate.sidecar.volumes" -}}
{{- include "tollgate.volumes" (dict "root" . "mode" "0444") }}
{{- end }}

{{/* The labels of pods with a sidecar of this release; the PodMonitor selects by them. */}}
{{- define "tollgate.sidecar.labels" -}}
tollgate.dev/injected-by: {{ .Release.Name }}
{{- end }}

{{/* A value as a CEL literal. `dyn` allows maps and lists with values of several types. */}}
{{- define "tollgate.cel" -}}
{{- if kindIs "map" . -}}
{ {{- range $index, $key := keys . | sortAlpha }}{{ if $index }}, {{ end }}{{ toJson $key }}: dyn({{ include "tollgate.cel" (get $ $key) }}){{ end -}} }
{{- else if kindIs "slice" . -}}
[ {{- range $index, $one := . }}{{ if $index }}, {{ end }}dyn({{ include "tollgate.cel" $one }}){{ end -}} ]
{{- else -}}
{{ toRawJson . }}
{{- end -}}
{{- end }}
