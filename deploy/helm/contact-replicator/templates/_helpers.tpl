{{- define "contact-replicator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "contact-replicator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "contact-replicator.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "contact-replicator.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "contact-replicator.selector" -}}
app.kubernetes.io/name: {{ include "contact-replicator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "contact-replicator.labels" -}}
{{ include "contact-replicator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "contact-replicator.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "contact-replicator.fullname" .) }}
{{- end }}

{{/* What the chart knows of the settings, before what the operator writes. */}}
{{- define "contact-replicator.config" -}}
{{- range list "worker" "admin" }}
{{- if regexMatch (printf `(?m)^\s*\[\s*%s\s*\]` .) $.Values.config }}
{{- fail (printf "config: leave out [%s], which the chart sets" .) }}
{{- end }}
{{- end }}
{{- if regexMatch `(?m)^\s*listen\s*=` .Values.config }}
{{- fail "config: leave out ingest.listen, and set ingest.enabled and ingest.port of the values" }}
{{- end }}
{{- $grace := int .Values.terminationGracePeriodSeconds }}
{{- if lt $grace 26 }}
{{- fail "terminationGracePeriodSeconds: at least 26, five more than log.kafka.drain_deadline may take" }}
{{- end }}
{{- $ingest := regexMatch `(?m)^\s*\[\s*ingest\s*\]` .Values.config }}
{{- $config := .Values.config }}
{{- if and .Values.ingest.enabled (not $ingest) }}
{{- fail "ingest.enabled: write [ingest] with token_file into config, since other machines reach it" }}
{{- end }}
{{- if .Values.ingest.enabled }}
{{- $listen := printf "[ingest]\nlisten = \"0.0.0.0:%d\"" (int .Values.ingest.port) }}
{{- $config = regexReplaceAll `(?m)^\s*\[\s*ingest\s*\]` $config $listen }}
{{- end -}}
{{ $config | trimSuffix "\n" }}

# Set by the chart.
[worker]
id_env = "POD_NAME"
data = "/var/lib/contact-replicator"
shutdown_deadline = "{{ sub $grace 5 }}s"

[admin]
listen = "0.0.0.0:{{ .Values.admin.port }}"
operator_listen = "127.0.0.1:{{ add .Values.admin.port 1 }}"
{{- end }}
