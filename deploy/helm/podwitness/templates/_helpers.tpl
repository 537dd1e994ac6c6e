{{- define "podwitness.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "podwitness.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "podwitness.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "podwitness.selector" -}}
app.kubernetes.io/name: {{ include "podwitness.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "podwitness.labels" -}}
{{ include "podwitness.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: agent
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "podwitness.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "podwitness.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "podwitness.priorityClass" -}}
{{- if .Values.priorityClass.create -}}
{{- default (include "podwitness.fullname" .) .Values.priorityClass.name -}}
{{- else -}}
{{- .Values.priorityClass.name -}}
{{- end -}}
{{- end -}}

{{- define "podwitness.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What the values decide, over what the user's `config` says of other things. */}}
{{- define "podwitness.config" -}}
{{- $decided := dict
  "metrics" (dict "listen" (printf ":%d" (int .Values.metrics.port)))
  "identity" (dict
    "kubernetes" (ternary "on" "off" .Values.kubernetes.enabled)
    "cri_socket" (default "off" .Values.containerRuntime.socket)
    "docker_socket" "off"
    "podman_socket" "off")
  "peers" (dict "kubernetes" .Values.peers.enabled) -}}
{{- toYaml (mergeOverwrite (deepCopy (default dict .Values.config)) $decided) -}}
{{- end -}}
