#!/usr/bin/env bash
# The picture server of examples/nginx with a merged model: the command line's answers, 1,000 requests eight at a time
# without an error, memory that does not grow, bad requests refused. Usage: nginx.sh BUILD
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(cd "$1" && pwd)
work=$(mktemp -d)
server=""
# shellcheck disable=SC2317
finish() { kill ${server:+"$server"} 2>/dev/null && wait "$server" || true; rm -rf "$work"; }
trap finish EXIT
skip() { echo "$*"; exit 77; }
problem() { cat "$work/server.log" >&2; echo "nginx: $*" >&2; exit 1; }

command -v curl >/dev/null || skip "curl is not installed"
export NGINX_ROOT=$build/nginx
if ! [ -x "$NGINX_ROOT/usr/sbin/nginx" ]; then
    command -v apt-get >/dev/null || skip "nginx comes from the packages of Debian or Ubuntu, and there is no apt-get"
    examples/nginx/fetch.sh "$NGINX_ROOT" >"$work/fetch.log" 2>&1 ||
        { rm -rf "$NGINX_ROOT"; skip "nginx's packages cannot be fetched here: $(grep . "$work/fetch.log" | tail -n 1)"; }
fi
export DISTAC_LUA=$build/lua/5.1

data=$work/data
"$build/distac" examples/embed_data.lua "$data"
"$build/distac" merge --quiet --base "$data/base.safetensors" --method ties --lambda 0.7 -o "$work/merged.safetensors" \
    "$data/latin.safetensors" "$data/hebrew.safetensors" >/dev/null
pictures=("$data"/latin/*.png)

# A port that nobody listens on: a connection to it is refused.
port=$((20000 + $$ % 20000))
while (: </dev/tcp/127.0.0.1/$port) 2>/dev/null; do port=$((port + 1)); done
url=http://127.0.0.1:$port/classify
examples/nginx/serve.sh "$work/merged.safetensors" "$data/latin-head.safetensors" "$port" >"$work/server.log" 2>&1 &
server=$!
for ((i = 0; i < 300; i++)); do
    curl -s -o /dev/null "$url" && break
    kill -0 $server 2>/dev/null || problem "the server has ended"
    sleep 0.1
done

# One picture after the other: what the command line says.
for picture in "${pictures[@]}"; do
    printf '%s: %s\n' "$picture" "$(curl -sS --fail --data-binary "@$picture" "$url")"
done | sed 's/{"class":\([0-9]*\),"name":"[A-Z]","share":\([0-9.e-]*\)}/\1 \2/' | awk '{ printf "%s class %d, %.4f\n", $1, $2, $3 }' >"$work/http.out"
"$build/distac" examples/classify.lua "$work/merged.safetensors" "$data/latin-head.safetensors" "${pictures[@]}" >"$work/cli.out"
diff "$work/http.out" "$work/cli.out" || problem "the server and the command line differ"

# requests N: that many, eight at a time; every answer must be a 200 with the whole text
requests() {
    LD_LIBRARY_PATH=$(echo "$NGINX_ROOT"/usr/lib/*-linux-gnu*) "$NGINX_ROOT/usr/bin/ab" -q -n "$1" -c 8 -T image/png \
        -p "${pictures[0]}" "$url" >"$work/ab.out" 2>&1 || { cat "$work/ab.out"; problem "ab failed"; }
    grep -q "^Complete requests: *$1\$" "$work/ab.out" && grep -q '^Failed requests: *0$' "$work/ab.out" &&
        ! grep -q 'Non-2xx' "$work/ab.out" || { cat "$work/ab.out"; problem "requests failed"; }
}
# KiB of all worker processes
memory() {
    local master worker sum=0
    master=$(pgrep -P $server nginx)
    for worker in $(pgrep -P "$master" nginx); do
        sum=$((sum + $(awk '/^VmRSS/ { print $2 }' "/proc/$worker/status")))
    done
    echo $sum
}
requests 200
before=$(memory)
requests 800
after=$(memory)
grep '^Requests per second' "$work/ab.out"
echo "memory of the workers: $before KiB after 200 requests, $after KiB after 1000"
[ "$before" -gt 1000 ] && [ $((after - before)) -lt 4096 ] || problem "the memory has grown"

# refused STATUS WORDS CURL-OPTIONS...
refused() {
    local status=$1 words=$2
    shift 2
    curl -s -o "$work/body" -w '%{http_code}' "$@" "$url" >"$work/status"
    [ "$(cat "$work/status")" = "$status" ] && grep -q -- "$words" "$work/body" ||
        { cat "$work/status" "$work/body"; problem "not refused as it should be: $*"; }
}
refused 400 "the body must be" -X POST
refused 400 "the picture: not a JPEG, PNG or PNM file" --data-binary @README.md
head -c 100 "${pictures[0]}" >"$work/half.png"
refused 400 "the picture" --data-binary "@$work/half.png"
curl -sS --fail --data-binary "@${pictures[0]}" "$url" | grep -q '"class":1,' || problem "after bad requests the server is not what it was"
grep -i 'error\]\|alert\]\|crit\]' "$work/server.log" && problem "the server has logged errors"
exit 0
