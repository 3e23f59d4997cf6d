{{- define "vmail-operator.selectorLabels" -}}
app.kubernetes.io/name: vmail-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "vmail-operator.labels" -}}
{{ include "vmail-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Name of what exists once in a cluster: two releases in two namespaces must not share it. */}}
{{- define "vmail-operator.clusterName" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}
{{- end }}

{{/* An image's full name. Argument: a list of the image's values and the root. */}}
{{- define "vmail-operator.image" -}}
{{- $image := index . 0 -}}
{{- $root := index . 1 -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* What the operator does in each namespace that it serves, and nothing more. */}}
{{- define "vmail-operator.rules" -}}
- apiGroups: [vmail.dev]
  resources: [mailservers, maildomains, mailboxes, mailaliases, mailadmins]
  verbs: [get, list, watch]
- apiGroups: [vmail.dev]
  resources: [mailservers/status, maildomains/status, mailboxes/status, mailaliases/status, mailadmins/status]
  verbs: [update, patch]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [configmaps, secrets, services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, patch]
# Look-up files that hold nothing any more, and an embedded database that is used no more (its claim stays).
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [delete]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [delete]
# Never deleted by the operator: mail is in them. Patched with an annotation that says how the mail is stored.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, create, patch]
# Patched so that the kubelet projects a changed ConfigMap at once, deleted to have Postfix try a mended configuration.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* What it does besides where it serves all namespaces: their labels decide what allowedNamespaces with a selector admits. */}}
{{- define "vmail-operator.clusterRules" -}}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get, list, watch]
{{- end }}
