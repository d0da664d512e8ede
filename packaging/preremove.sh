#!/bin/sh
# Before a removal or an upgrade. dpkg says `remove` or something else; rpm says how
# many versions will be left. In an upgrade the old relay works on until the new one
# is in place.
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
[ -d "${DPKG_ROOT:-}/run/systemd/system" ] || exit 0
systemctl disable --now msgbusd.service
