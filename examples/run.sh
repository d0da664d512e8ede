#!/bin/sh
# Runs an example on two relays of this machine, and ends them:
#
#   sh examples/run.sh function-platform
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
	[ ! -f "$dir/pids" ] || kill $(cat "$dir/pids") 2>/dev/null || true
	rm -rf "$dir"
}
trap end EXIT
trap 'exit 130' INT TERM
cd "$dir"
sh "$root/docs/two-twins.sh"
cd "$root"
go run "./examples/$example"
