#!/bin/sh
# Starts two twins to try things on, in the current folder and on 127.0.0.1 only:
#
#   twin 1001   Redis 7001   relay 7101   admin side and console 7201
#   twin 1002   Redis 7002   relay 7102   admin side and console 7202
#
# and a registry at 7000, which also knows a twin 1003 that nobody runs, and no other.
# To end them: kill $(cat pids)
set -eu
umask 077 # keys are for their owner only

command -v curl >/dev/null || { echo "two-twins.sh: needs curl" >&2 && exit 1; }
busy=
for port in 7000 7001 7002 7101 7102 7201 7202; do
	status=0
	curl -s --noproxy '*' --max-time 2 -o /dev/null "http://127.0.0.1:$port/" || status=$?
	[ $status -eq 7 ] || busy="$busy $port" # 7: nobody listens
done
if [ -n "$busy" ]; then
	echo "two-twins.sh: in use on 127.0.0.1, so nothing is started: port$busy" >&2
	echo "hint: if these are twins that you started before, kill \$(cat pids) in their folder ends them; ss -ltnp names others" >&2
	exit 1
fi

: >pids
# start LOG PROGRAM...: in the background
start() {
	log=$1
	shift
	"$@" >"$log" 2>&1 &
	echo $! >>pids
}

account() { msgbusd key show --mnemonics-file "$1" | sed -n 's/^account *//p'; }

for twin in 1001 1002 1003; do
	[ -e $twin.key ] || msgbusd key new --phrase-only >$twin.key
done
cat >twins.json <<END
[{"id": 1001, "account": "$(account 1001.key)", "ip": "127.0.0.1:7101"},
 {"id": 1002, "account": "$(account 1002.key)", "ip": "127.0.0.1:7102"},
 {"id": 1003, "account": "$(account 1003.key)", "ip": "127.0.0.1:7103"}]
END
start registry.log msgbusd registry --file twins.json --listen 127.0.0.1:7000

# relay TWIN REDIS PUBLIC ADMIN
relay() {
	mkdir -p "redis-$1"
	start "redis-$1.log" redis-server --bind 127.0.0.1 --port "$2" --dir "redis-$1" --appendonly yes
	start "relay-$1.log" msgbusd --substrate http://127.0.0.1:7000 --mnemonics-file "$1.key" --twin "$1" \
		--redis "127.0.0.1:$2" --listen "127.0.0.1:$3" --admin-listen "127.0.0.1:$4" \
		--allow-network 127.0.0.0/8 --allow-port 7101,7102,7103
}
relay 1001 7001 7101 7201
relay 1002 7002 7102 7202

for admin in 7201 7202; do
	n=0
	until curl -fs "http://127.0.0.1:$admin/readyz" >/dev/null; do
		n=$((n + 1))
		[ $n -lt 150 ] || { tail -n 5 ./*.log && exit 1; }
		sleep 0.2
	done
done
echo "twins 1001 and 1002 serve; to end them: kill \$(cat pids)"
