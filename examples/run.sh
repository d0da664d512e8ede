#!/bin/sh
# Runs an example on two relays of this machine, and ends them:
#
#   sh examples/run.sh function-platform
#
# It needs the ports that docs/two-twins.sh names, and starts nothing where one is in use.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
example=${1-}
if [ ! -f "$root/examples/$example/main.go" ]; then
	echo "which example? one of: $(cd "$root/examples" && echo */)" >&2
	exit 2
fi
make -s -C "$root" build
PATH=$root/bin:$PATH
dir=$(mktemp -d)
end() {
	[ ! -f "$dir/pids" ] || for pid in $(cat "$dir/pids"); do
		kill "$pid" 2>/dev/null || continue
		while kill -0 "$pid" 2>/dev/null; do # Redis saves into its folder, and does not end without it
			sleep 0.1
		done
	done
	rm -rf "$dir"
}
trap end EXIT
trap 'exit 130' INT TERM
cd "$dir"
sh "$root/docs/two-twins.sh"
cd "$root"
go run "./examples/$example"
