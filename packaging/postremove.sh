#!/bin/sh
# After a removal, a purge (dpkg only) or an upgrade. dpkg says which; rpm says how many
# versions are left.
set -e

case "$1" in
purge)
	# What the operator has put there, the twin's key among it. The messages are in
	# Redis, which is not ours.
	rm -rf "${DPKG_ROOT:-}/etc/msgbusd"
	;;
remove | 0) ;;
*) exit 0 ;;
esac
[ ! -d "${DPKG_ROOT:-}/run/systemd/system" ] || systemctl daemon-reload
