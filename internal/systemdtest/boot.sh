#!/bin/sh
# Runs systemd as the first process of namespaces of its own, on a copy of this
# machine's files: whatever it and its services change is gone with it. The network,
# and with it loopback, is this machine's.
set -eu

if [ "${1:-}" != inside ]; then
	# In a control group of its own, which is the root of what it sees: systemd makes
	# groups for its services, and there may be another systemd.
	mount --make-rprivate /
	mount -t cgroup2 cgroup2 /mnt
	group=/mnt/msgbusd-test-$$
	mkdir "$group"
	echo $$ >"$group/cgroup.procs"
	setpriv --pdeathsig KILL unshare --mount --pid --ipc --uts --cgroup --fork --kill-child "$0" inside || true
	echo $$ >/mnt/cgroup.procs
	find "$group" -depth -type d -exec rmdir {} +
	exit
fi

umount /mnt
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
# Nothing of the machine's own services is started.
mkdir -p run/systemd/system
printf '[Unit]\nWants=systemd-journald.service\n' >run/systemd/system/msgbusd-test.target
mkdir -p mnt
pivot_root . mnt
cd /
umount -l /mnt
mount --make-rshared / # else services do not see the credentials that systemd mounts for them
exec env container=msgbusd-test /lib/systemd/systemd --system --unit=msgbusd-test.target --log-target=journal
