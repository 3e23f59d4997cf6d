# The leaves of a chart's values.yaml: a table of Markdown, or with -v form=paths their paths.
# Takes two blanks a level, and a value on the line of its key; the comment above a leaf says what it means.

/^ *#/ {
	line = $0
	sub(/^ *# ?/, "", line)
	comment = comment == "" ? line : comment " " line
	next
}

/^ *$/ {
	comment = ""
	next
}

{
	match($0, /^ */)
	depth = RLENGTH / 2
	key = substr($0, RLENGTH + 1)
	value = key
	sub(/:.*/, "", key)
	sub(/^[^:]*: */, "", value)
	path[depth] = depth == 0 ? key : path[depth - 1] "." key
	if (value != "") leaf(path[depth], value, comment)
	comment = ""
}

BEGIN {
	if (form != "paths") print "| value | default | meaning |\n| --- | --- | --- |"
}

function leaf(path, value, meaning) {
	if (form == "paths") {
		print path
		return
	}
	if (meaning == "") {
		print path ": no comment says what it means" > "/dev/stderr"
		exit 1
	}
	gsub(/\|/, "\\|", meaning)
	printf "| `%s` | `%s` | %s |\n", path, value, meaning
}
