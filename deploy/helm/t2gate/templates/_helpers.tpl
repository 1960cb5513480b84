{{/* Names. */}}
{{- define "t2gate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 51 characters: a StatefulSet's pods and their revision label add to it, and so do the other objects. */}}
{{- define "t2gate.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 51 | trimSuffix "-" }}
{{- else if contains (include "t2gate.name" .) .Release.Name }}
{{- .Release.Name | trunc 51 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "t2gate.name" .) | trunc 51 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "t2gate.adminName" -}}
{{ include "t2gate.fullname" . }}-admin
{{- end }}

{{- define "t2gate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "t2gate.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "t2gate.tlsSecretName" -}}
{{- if .Values.tls.existingSecret }}{{ .Values.tls.existingSecret }}
{{- else if .Values.tls.certificate }}{{ include "t2gate.fullname" . }}-tls
{{- end }}
{{- end }}

{{- define "t2gate.selectorLabels" -}}
app.kubernetes.io/name: {{ include "t2gate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "t2gate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "t2gate.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "t2gate.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* The restricted Pod Security Standard. */}}
{{- define "t2gate.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ int64 .Values.runAsUser }}
runAsGroup: {{ int64 .Values.runAsGroup }}
fsGroup: {{ int64 .Values.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "t2gate.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* A value of the configuration file. JSON's strings and lists of strings are TOML's as well; numbers are told apart
     because YAML's come as floats, which the gateway does not take for a whole number. */}}
{{- define "t2gate.tomlValue" -}}
{{- if kindIs "float64" . }}{{ int64 . }}
{{- else if kindIs "map" . }}{ {{- $comma := "" }}{{ range $key, $value := . }}{{ $comma }} {{ $key }} = {{ include "t2gate.tomlValue" $value }}{{ $comma = "," }}{{ end }} }
{{- else }}{{ toJson . }}
{{- end }}
{{- end }}

{{/* The stores of kind opendal that have options from Secrets, by their number in the configuration. */}}
{{- define "t2gate.secretOptions" -}}
{{- $all := dict "0" (default dict .Values.backend.secretOptions) }}
{{- range $i, $backend := .Values.otherBackends }}
{{- $_ := set $all (add1 $i | toString) (default dict $backend.secretOptions) }}
{{- end }}
{{- range $number := keys $all }}{{ if not (get $all $number) }}{{ $_ := unset $all $number }}{{ end }}{{ end }}
{{- toJson $all }}
{{- end }}

{{/* Their options, as the configuration has them: `options` and, of store `number`, the files in `secretOptions`. */}}
{{- define "t2gate.storeOptions" -}}
{{- $number := .number }}
{{- $options := deepCopy (default dict .options) }}
{{- range $name, $from := .secretOptions }}
{{- $_ := set $options (ternary $name (printf "%s_file" $name) (default false $from.asPath)) (printf "/run/t2gate/stores/%s/%s" $number $name) }}
{{- end }}
{{- toJson $options }}
{{- end }}

{{/* Not empty where the gateway keeps nothing for itself: all is in a store, and it makes neither key nor certificate. */}}
{{- define "t2gate.keepsNothing" -}}
{{- if and (eq .Values.backend.kind "opendal") .Values.accounts (include "t2gate.tlsSecretName" .) (not .Values.persistence.existingClaim) }}true{{ end }}
{{- end }}

{{/* Not empty where two pods may be there at a time, and no volume is to go with one. Of other backends that is not known. */}}
{{- define "t2gate.isDeployment" -}}
{{- $backend := default dict .Values.config.backend }}
{{- if eq .Values.backend.kind "memory" }}true
{{- else if and (include "t2gate.keepsNothing" .) (not .Values.otherBackends) (eq "L2" (default "L0" $backend.least_level)) }}true
{{- end }}
{{- end }}

{{/* Not empty where the gateway calls others. */}}
{{- define "t2gate.hasStore" -}}
{{- if eq .Values.backend.kind "opendal" }}true{{ end }}
{{- range .Values.otherBackends }}{{ if eq .kind "opendal" }}true{{ end }}{{ end }}
{{- end }}

{{- define "t2gate.configuration" -}}
[listen]
address = "0.0.0.0:8443"
admin_address = "0.0.0.0:8444"
{{- $own := dict "backend" (dict "kind" .Values.backend.kind "root" "/data") }}
{{- $own = merge $own (dict "limits" (dict "drain_deadline" (printf "%ds" (int64 .Values.drainSeconds))) "log" (dict "format" "json")) }}
{{- $own = merge $own (dict "s3" (dict "base_domains" (include "t2gate.domains" . | fromJsonArray))) }}
{{- if include "t2gate.tlsSecretName" . }}
{{- $own = merge $own (dict "tls" (dict "certificate" "/run/t2gate/tls/tls.crt" "key" "/run/t2gate/tls/tls.key")) }}
{{- end }}
{{- $sections := merge (deepCopy .Values.config) $own }}
{{- with .Values.backend.secretOptions }}
{{- $given := dict "number" "0" "options" $sections.backend.options "secretOptions" . }}
{{- $_ := set $sections.backend "options" (include "t2gate.storeOptions" $given | fromJson) }}
{{- end }}
{{- $several := gt (len .Values.otherBackends) 0 }}
{{- if $several }}
{{- $_ := set $sections.backend "name" (default .Values.backend.kind $sections.backend.name) }}
{{- end }}
{{- range $section, $keys := $sections }}
{{ if and $several (eq $section "backend") }}
[[backend]]
{{- else }}
[{{ $section }}]
{{- end }}
{{- range $key, $value := $keys }}
{{ $key }} = {{ include "t2gate.tomlValue" $value }}
{{- end }}
{{- if and $several (eq $section "backend") }}
{{- range $i, $backend := $.Values.otherBackends }}
{{- $backend = deepCopy $backend }}
{{- with $backend.secretOptions }}
{{- $given := dict "number" (add1 $i | toString) "options" $backend.options "secretOptions" . }}
{{- $_ := set $backend "options" (include "t2gate.storeOptions" $given | fromJson) }}
{{- end }}

[[backend]]
{{- range $key, $value := omit $backend "existingClaim" "subPath" "secretOptions" }}
{{ $key }} = {{ include "t2gate.tomlValue" $value }}
{{- end }}
root = "/backends/{{ $backend.name }}"
{{- end }}
{{- end }}
{{- end }}
{{- range .Values.buckets }}

[[bucket]]
name = {{ include "t2gate.tomlValue" .name }}
{{- with .backend }}
backend = {{ include "t2gate.tomlValue" . }}
{{- end }}
{{- with .account }}
account = {{ include "t2gate.tomlValue" . }}
{{- end }}
{{- end }}
{{- range .Values.accounts }}

[[account]]
{{- range $key, $value := omit . "keys" }}
{{ $key }} = {{ include "t2gate.tomlValue" $value }}
{{- end }}
{{- range .keys }}

[[account.key]]
{{- range $key, $value := omit . "secret" "existingSecret" }}
{{ $key }} = {{ include "t2gate.tomlValue" $value }}
{{- end }}
secret_file = "/run/t2gate/keys/{{ .id }}"
{{- end }}
{{- end }}
{{ end }}

{{/* The names under which the Service is reached inside the cluster. */}}
{{- define "t2gate.domains" -}}
{{- $name := include "t2gate.fullname" . }}
{{- list (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.cluster.local" $name .Release.Namespace) | toJson }}
{{- end }}

{{/* Secrets that came with the values, by the id of their key. */}}
{{- define "t2gate.ownKeys" -}}
{{- $own := dict }}
{{- $seen := dict }}
{{- range .Values.accounts }}{{ range .keys }}
{{- if hasKey $seen .id }}{{ fail (printf "accounts: two keys have the id %s" .id) }}{{ end }}
{{- $_ := set $seen .id true }}
{{- if .secret }}{{ $_ := set $own .id .secret }}{{ end }}
{{- end }}{{ end }}
{{- toJson $own }}
{{- end }}

{{- define "t2gate.podTemplate" -}}
metadata:
  labels:
    {{- include "t2gate.selectorLabels" . | nindent 4 }}
    app.kubernetes.io/component: gateway
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    # A changed configuration or Secret of the chart's starts the pod anew.
    checksum/config: {{ include "t2gate.configuration" . | sha256sum }}
    checksum/secrets: {{ printf "%s%s%s" (include "t2gate.ownKeys" .) .Values.tls.certificate .Values.tls.key | sha256sum }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "t2gate.serviceAccountName" . }}
  automountServiceAccountToken: false
  # Variables about Services named t2gate would look like the gateway's own.
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- include "t2gate.podSecurityContext" . | nindent 4 }}
  terminationGracePeriodSeconds: {{ add .Values.preStopSleepSeconds .Values.drainSeconds 10 }}
  containers:
    - name: t2gate
      image: {{ include "t2gate.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve, --config, /etc/t2gate/t2gate.toml]
      {{- with .Values.extraEnv }}
      env: {{ toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - {name: s3, containerPort: 8443, protocol: TCP}
        - {name: admin, containerPort: 8444, protocol: TCP}
      startupProbe:
        httpGet: {path: /healthz, port: admin}
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /healthz, port: admin}
        periodSeconds: 10
        timeoutSeconds: 6
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 5
        timeoutSeconds: 6
        failureThreshold: 2
      {{- if and .Values.preStopSleepSeconds (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) }}
      lifecycle:
        preStop:
          sleep: {seconds: {{ int64 .Values.preStopSleepSeconds }}}
      {{- end }}
      securityContext:
        {{- include "t2gate.containerSecurityContext" . | nindent 8 }}
      resources: {{ toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: data
          mountPath: /data
          {{- with .Values.persistence.subPath }}
          subPath: {{ . }}
          {{- end }}
        {{- range .Values.otherBackends }}
        {{- if eq .kind "fs" }}
        - name: backend-{{ .name }}
          mountPath: /backends/{{ .name }}
          {{- with .subPath }}
          subPath: {{ . }}
          {{- end }}
        {{- end }}
        {{- end }}
        - {name: config, mountPath: /etc/t2gate, readOnly: true}
        {{- if include "t2gate.tlsSecretName" . }}
        - {name: tls, mountPath: /run/t2gate/tls, readOnly: true}
        {{- end }}
        {{- if .Values.accounts }}
        - {name: keys, mountPath: /run/t2gate/keys, readOnly: true}
        {{- end }}
        {{- if ne (include "t2gate.secretOptions" .) "{}" }}
        - {name: stores, mountPath: /run/t2gate/stores, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "t2gate.fullname" . }}}
    {{- with include "t2gate.tlsSecretName" . }}
    - name: tls
      secret: {secretName: {{ . }}, defaultMode: 0440}
    {{- end }}
    {{- if .Values.accounts }}
    - name: keys
      projected:
        defaultMode: 0440
        sources:
          {{- if ne (include "t2gate.ownKeys" .) "{}" }}
          - secret: {name: {{ include "t2gate.fullname" . }}-keys}
          {{- end }}
          {{- range .Values.accounts }}{{ range .keys }}{{ if .existingSecret }}
          - secret:
              name: {{ .existingSecret.name }}
              items: [{key: {{ .existingSecret.key }}, path: {{ .id }}}]
          {{- end }}{{ end }}{{ end }}
    {{- end }}
    {{- with include "t2gate.secretOptions" . | fromJson }}
    - name: stores
      projected:
        defaultMode: 0440
        sources:
          {{- range $number, $options := . }}{{ range $option, $from := $options }}
          - secret:
              name: {{ $from.name }}
              items: [{key: {{ $from.key }}, path: {{ $number }}/{{ $option }}}]
          {{- end }}{{ end }}
    {{- end }}
    {{- range .Values.otherBackends }}
    {{- if eq .kind "fs" }}
    - name: backend-{{ .name }}
      persistentVolumeClaim: {claimName: {{ .existingClaim }}}
    {{- end }}
    {{- end }}
    {{- if or (eq .Values.backend.kind "memory") (include "t2gate.keepsNothing" .) }}
    - name: data
      emptyDir: {}
    {{- else if .Values.persistence.existingClaim }}
    - name: data
      persistentVolumeClaim: {claimName: {{ .Values.persistence.existingClaim }}}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
