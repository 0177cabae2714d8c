{{- /* A setting's value as the environment has it; Helm reads whole numbers as floats, and would print 2e+07. */}}
{{- define "callpulse.value" -}}
{{- if kindIs "float64" . }}{{ if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- /* The variables that every container of ours has. */}}
{{- define "callpulse.env" -}}
{{- range $name, $value := .Values.settings }}
- {name: CALLPULSE_{{ upper $name }}, value: {{ include "callpulse.value" $value | quote }}}
{{- end }}
{{- if .Values.sasl.existingSecret }}
- {name: CALLPULSE_SASL_PASSWORD_FILE, value: /etc/callpulse/sasl/password}
{{- end }}
{{- with .Values.tls }}
{{- if and .existingSecret .caKey }}
- {name: CALLPULSE_SSL_CA_FILE, value: /etc/callpulse/tls/ca.crt}
{{- end }}
{{- if and .existingSecret .certKey }}
- {name: CALLPULSE_SSL_CERT_FILE, value: /etc/callpulse/tls/tls.crt}
- {name: CALLPULSE_SSL_KEY_FILE, value: /etc/callpulse/tls/tls.key}
{{- end }}
{{- if and .existingSecret .keyPasswordKey }}
- {name: CALLPULSE_SSL_KEY_PASSWORD_FILE, value: /etc/callpulse/tls/tls.password}
{{- end }}
{{- end }}
{{- end }}

{{- define "callpulse.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 2Gi}
{{- if .Values.sasl.existingSecret }}
- name: sasl
  secret:
    secretName: {{ .Values.sasl.existingSecret }}
    defaultMode: 0440
    items:
      - {key: {{ .Values.sasl.passwordKey }}, path: password}
{{- end }}
{{- with .Values.tls }}
{{- if .existingSecret }}
- name: tls
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      {{- range $path, $key := dict "ca.crt" .caKey "tls.crt" .certKey "tls.key" .keyKey "tls.password" .keyPasswordKey }}
      {{- if $key }}
      - {key: {{ $key }}, path: {{ $path }}}
      {{- end }}
      {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "callpulse.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.sasl.existingSecret }}
- {name: sasl, mountPath: /etc/callpulse/sasl, readOnly: true}
{{- end }}
{{- if .Values.tls.existingSecret }}
- {name: tls, mountPath: /etc/callpulse/tls, readOnly: true}
{{- end }}
{{- end }}

{{- /* Who a pod is: nobody of importance, without a token, without the variables of the namespace's services. */}}
{{- define "callpulse.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "callpulse.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* Out to Kafka and DNS, and what else was asked for. */}}
{{- define "callpulse.egress" -}}
{{- $policy := .Values.networkPolicy }}
{{- $ports := $policy.kafka.ports | default (regexFindAll ":[0-9]+(,|$)" (nospace .Values.settings.bootstrap_servers) -1) }}
- ports:
    {{- range uniq $ports }}
    - {protocol: TCP, port: {{ toString . | trimAll ":," | int }}}
    {{- end }}
  {{- with $policy.kafka.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
- ports:
    {{- range $policy.dns.ports }}
    - {protocol: UDP, port: {{ int . }}}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
  {{- with $policy.dns.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- with $policy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}
