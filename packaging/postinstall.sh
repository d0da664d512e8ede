#!/bin/sh
# After an installation or an upgrade. dpkg says `configure` and the version that was
# there before, if any; rpm says how many versions are there now.
set -e

case "$1${2:+ upgrade}" in
configure | 1) first=yes ;;
"configure upgrade" | [0-9]*) first= ;;
*) exit 0 ;; # dpkg undoes something: the relay that ran goes on
esac

# A root that is not the running system's has no systemd to tell (DPKG_ROOT is dpkg's).
[ -d "${DPKG_ROOT:-}/run/systemd/system" ] || exit 0
systemctl daemon-reload

# --no-block: a relay whose Redis is away waits for it, and the package manager, which
# may be about to start that Redis, must not.
if [ -z "$first" ]; then
	systemctl --no-block try-restart msgbusd.service
elif [ -e "${DPKG_ROOT:-}/etc/msgbusd/mnemonic" ] && [ -e "${DPKG_ROOT:-}/etc/msgbusd/msgbusd.env" ]; then
	# Configured before it was installed. Else the first start is its operator's.
	systemctl enable msgbusd.service
	systemctl --no-block start msgbusd.service
fi
