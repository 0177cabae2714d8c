{{- define "callpulse.fullname" -}}
{{- ternary .Release.Name (printf "%s-callpulse" .Release.Name) (contains "callpulse" .Release.Name) | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "callpulse.selector" -}}
app.kubernetes.io/name: callpulse
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "callpulse.labels" -}}
{{ include "callpulse.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* The kinds of pods of this mode, as JSON: role -> what is set for it. */}}
{{- define "callpulse.roles" -}}
{{- if eq .Values.mode "split" }}
{{- dict "scorer" .Values.scorer "judge" .Values.judge | toJson }}
{{- else }}
{{- dict "worker" .Values.worker | toJson }}
{{- end }}
{{- end }}

{{- /* Takes (dict "root" $ "gpu" bool). */}}
{{- define "callpulse.image" -}}
{{- $tag := .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- printf "%s:%s%s" .root.Values.image.repository $tag (ternary "-gpu" "" .gpu) }}
{{- end }}

{{- /* The most replicas that have work. Takes (dict "root" $ "it" role). */}}
{{- define "callpulse.most" -}}
{{- .it.maxReplicas | default .root.Values.settings.partitions }}
{{- end }}

{{- /* What values.schema.json cannot say: what fits together. */}}
{{- define "callpulse.check" -}}
{{- $protocol := .Values.settings.security_protocol | default "PLAINTEXT" }}
{{- $tokens := eq (.Values.settings.sasl_mechanism | default "") "OAUTHBEARER" }}
{{- if and .Values.tls.existingSecret (not (hasSuffix "SSL" $protocol)) }}
{{- fail (printf "tls.existingSecret is set, but settings.security_protocol is %s, which does not use it" $protocol) }}
{{- end }}
{{- if and .Values.sasl.existingSecret (or $tokens (not (hasPrefix "SASL" $protocol))) }}
{{- fail (printf "sasl.existingSecret is set, but settings.security_protocol %s and settings.sasl_mechanism do not use a password" $protocol) }}
{{- end }}
{{- if and (hasPrefix "SASL" $protocol) (not $tokens) (not .Values.sasl.existingSecret) }}
{{- fail (printf "settings.security_protocol is %s: name the Secret with the password in sasl.existingSecret" $protocol) }}
{{- end }}
{{- if ne (empty .Values.tls.certKey) (empty .Values.tls.keyKey) }}
{{- fail "tls.certKey and tls.keyKey go together" }}
{{- end }}
{{- if and .Values.autoscaling.enabled $tokens }}
{{- fail "autoscaling: KEDA cannot call settings.sasl_token_provider; leave it off and set the replicas, or write a ScaledObject of your own" }}
{{- end }}
{{- range $role, $it := include "callpulse.roles" . | fromJson }}
{{- $most := include "callpulse.most" (dict "root" $ "it" $it) | int }}
{{- if and (ne $role "scorer") (gt $most (int $.Values.settings.partitions)) }}
{{- fail (printf "%s.maxReplicas: %d, but there are %d partitions: the others would have nothing to do" $role $most (int $.Values.settings.partitions)) }}
{{- end }}
{{- if gt (int $it.replicas) $most }}
{{- fail (printf "%s.replicas: %d, but %d have work at most (settings.partitions, or %s.maxReplicas)" $role (int $it.replicas) $most $role) }}
{{- end }}
{{- end }}
{{- end }}
