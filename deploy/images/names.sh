# shellcheck shell=bash
# What the images are called for a cluster: those of its node, or where it pulls them from.

image_prefix() {
	echo "${VMAIL_IMAGE_PREFIX:-localhost}"
}

# The chart's values that name them, as arguments of helm.
image_values() {
	local prefix
	prefix=$(image_prefix)
	printf -- '--set %s.repository=%s/vmail-%s,%s.tag=dev ' \
		image "$prefix" operator image postfixImage "$prefix" postfix postfixImage mariadbImage "$prefix" mariadb mariadbImage
}
