# shellcheck shell=bash
# What is checked of the chart, and of the ways to install without it, where there is no cluster yet.

# shellcheck disable=SC2154 # the project is where the script that sources this file is
CHART=$project/charts/vmail-operator

chart() {
	helm lint --strict "$CHART"
	one_version
	values_are_known
	values_are_used
	readme_installs
	kustomizations_build
}

# helm template, for the Kubernetes of the tests.
render() {
	helm template --kube-version "$KUBERNETES_VERSION" "$@"
}

# The chart's default images are those of its appVersion, which is the program's.
one_version() {
	local version
	version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$project/Cargo.toml")
	grep -qx "version: $version" "$CHART/Chart.yaml"
	grep -qx "appVersion: $version" "$CHART/Chart.yaml"
}

# leaves FILE: the paths of its values.
leaves() {
	awk -v form=paths -f "$project/deploy/chart-values.awk" "$1" | sort
}

# Each value is in the schema, and the schema has no others. That each is in the README is the matter of `make generate`.
values_are_known() {
	local in_schema
	in_schema=$(jq -r '
		def leaves(path): to_entries[] | .key as $key | if .value.properties then .value.properties | leaves(path + [$key])
			else path + [$key] | join(".") end;
		.properties | del(.global) | leaves([])' "$CHART/values.schema.json" | sort)
	echo "values.yaml and values.schema.json:"
	diff <(leaves "$CHART/values.yaml") <(echo "$in_schema")
}

# Every value set to something that is looked for in the objects.
values_are_used() {
	local objects word values=$project/tests/chart-values.yaml
	echo "values.yaml and tests/chart-values.yaml:"
	diff <(leaves "$CHART/values.yaml") <(leaves "$values")
	render vmail-operator "$CHART" >/dev/null
	objects=$(render 123 "$CHART" --namespace 456 --values "$values")
	for word in $(grep -o 'marked-[a-z-]*' "$values") 'kind: PodDisruptionBudget' 'kind: PodMonitor' 'honorLabels: true' 'kind: NetworkPolicy'; do
		grep -q "$word" <<<"$objects" || fail "$word is set and in no object"
	done
	# A name of digits is a text all the same.
	in_none '[:-] \[?(123|456|789)\]?$' "$objects"
	in_none '^kind: CustomResourceDefinition' "$objects"
}

# What the README says to install with pulls the images that it says to push.
readme_installs() {
	local command
	command=$(sed -n '/^    helm install /,/[^\\]$/p' "$project/README.md")
	echo "the README's helm install, and the images that the tests push:"
	# shellcheck disable=SC2046 # several arguments
	diff <(cd "$project" && eval "${command/helm install/render}") \
		<(render vmail-operator "$CHART" --namespace vmail-system $(VMAIL_IMAGE_PREFIX=REGISTRY image_values))
}

kustomizations_build() {
	local objects
	objects=$(kubectl kustomize "$project/deploy/kustomize/overlay")
	[ "$(grep -c 'registry.example.org/vmail-.*:dev' <<<"$objects")" -eq 3 ] || fail "the overlay doesn't name three images"
	[ "$(grep -c '^kind: CustomResourceDefinition' <<<"$objects")" -eq 5 ] || fail "the base doesn't hold five definitions"
	in_none localhost/ "$objects"
}

# in_none PATTERN OBJECTS
in_none() {
	if grep -nE "$1" <<<"$2"; then
		fail "$1 is in the objects"
	fi
}
