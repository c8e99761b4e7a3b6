{{- define "danelaw.unchecked" -}}
{{- .Values.config | default (.Files.Get (printf "files/%s.toml" .Values.kind)) -}}
{{- end }}

{{/* The configuration as text. Templates read it by fromToml. */}}
{{- define "danelaw.config" -}}
{{- include "danelaw.check" . -}}
{{- include "danelaw.unchecked" . -}}
{{- end }}

{{- define "danelaw.selector" -}}
app.kubernetes.io/name: danelaw
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Seconds of a duration such as "9m30s": the time that it moves a day's midnight by. */}}
{{- define "danelaw.seconds" -}}
{{- if not (regexMatch "^([0-9]+(h|m|s|ms))+$" .) -}}
{{- fail (printf "the chart reads durations such as \"570s\" or \"9m30s\", and not %q" .) -}}
{{- end -}}
{{- $midnight := toDate "2006-01-02" "2000-01-01" -}}
{{- sub (mustDateModify . $midnight | unixEpoch) (unixEpoch $midnight) -}}
{{- end }}

{{/* The port at the end of an address. */}}
{{- define "danelaw.port" -}}
{{- $port := regexFind ":[0-9]+$" . | trimPrefix ":" -}}
{{- if not $port }}{{ fail (printf "%q has no port" .) }}{{ end -}}
{{- $port -}}
{{- end }}

{{/* The least terminationGracePeriodSeconds. The defaults are those of danelaw.toml, which a test compares. */}}
{{- define "danelaw.termination" -}}
{{- $timeouts := dig "timeouts" dict (include "danelaw.unchecked" . | fromToml) -}}
{{- $final := include "danelaw.seconds" (get $timeouts "final" | default "570s") -}}
{{- $client := include "danelaw.seconds" (get $timeouts "client" | default "5m") -}}
{{- $grace := include "danelaw.seconds" (get $timeouts "grace" | default "30s") -}}
{{- add $final $client $grace (eq .Values.kind "pool" | ternary .Values.pool.preStopSeconds 0) -}}
{{- end }}

{{/* Refuses values and configurations that do not fit. */}}
{{- define "danelaw.check" -}}
{{- $config := include "danelaw.unchecked" . | fromToml -}}
{{- if hasKey $config "Error" }}{{ fail (printf "config is no danelaw.toml: %s" $config.Error) }}{{ end -}}
{{- if not (dig "admin" "address" "" $config) }}{{ fail "config: the probes need admin.address" }}{{ end -}}
{{- if hasPrefix "127." $config.admin.address }}{{ fail "config: the kubelet cannot ask admin.address on loopback" }}{{ end -}}
{{- $least := include "danelaw.termination" . | int -}}
{{- $set := .Values.terminationGracePeriodSeconds -}}
{{- if and (not (kindIs "invalid" $set)) (lt (int $set) $least) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d; timeouts.final + timeouts.client + timeouts.grace (and pool.preStopSeconds) are %d: less may cut mail that is on its way" (int $set) $least) -}}
{{- end -}}
{{- if eq .Values.kind "pool" -}}
{{- if dig "store" "path" "" $config }}{{ fail "config: danelaws of a pool share no file; store.url is for them" }}{{ end -}}
{{- if not (get $config "listener") }}{{ fail "config: a pool needs a [[listener]] on an address of the pod" }}{{ end -}}
{{- range get $config "listener" -}}
{{- if not (has (get . "tls") (list "required" "implicit")) -}}
{{- fail (printf "config: mail to the listener %s crosses a network; set tls = \"required\" or \"implicit\"" .address) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* danelaw's container, but for its kind. */}}
{{- define "danelaw.container" -}}
name: danelaw
image: {{ .Values.image }}
imagePullPolicy: {{ .Values.imagePullPolicy }}
{{- end }}

{{- define "danelaw.probes" -}}
livenessProbe:
  httpGet:
    path: /livez
    port: admin
readinessProbe:
  httpGet:
    path: /readyz
    port: admin
{{- end }}

{{- define "danelaw.confined" -}}
runAsNonRoot: true
runAsUser: 65532
{{- if eq .Values.kind "pool" }}
runAsGroup: 65532
{{- else }}
# The kubelet gives the files of Secrets to this group. (An fsGroup would take the mail server's queue too.)
runAsGroup: 0
{{- end }}
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities:
  drop: ["ALL"]
{{- end }}

{{/* The volume that becomes /etc/danelaw. */}}
{{- define "danelaw.files" -}}
{{- $config := include "danelaw.config" . | fromToml -}}
name: danelaw
projected:
  # Readable by the group of danelaw, and not by all.
  defaultMode: 0440
  sources:
    - configMap:
        name: {{ .Release.Name }}-config
{{- if eq .Values.kind "pool" }}
    - secret:
        name: {{ .Values.pool.tls.secret }}
        items:
          - { key: tls.crt, path: certificate.pem }
          - { key: tls.key, path: key.pem }
{{- if dig "store" "password_file" "" $config }}
    - secret:
        name: {{ .Values.pool.database.secret }}
        items:
          - { key: password, path: database-password }
{{- end }}
{{- end }}
{{- range .Values.secrets }}
    - secret:
        {{- toYaml . | nindent 8 }}
{{- end }}
{{- end }}
