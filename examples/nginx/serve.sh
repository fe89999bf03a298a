#!/usr/bin/env bash
# A picture server: nginx with Debian's Lua module, which is LuaJIT, and distac inside.
#
#   distac merge --base base.safetensors --method ties -o merged.safetensors a.safetensors b.safetensors
#   examples/nginx/serve.sh merged.safetensors head.safetensors [PORT]
#   curl --data-binary @picture.png http://127.0.0.1:8080/classify
#
# Debian's package of the Lua module would replace the system's LuaJIT, so nginx is not installed but unpacked, by
# fetch.sh, into build/nginx (NGINX_ROOT). distac's Lua files for LuaJIT are taken from the build tree, from the
# installation that this file belongs to, or from DISTAC_LUA, such as /usr/local/share/lua/5.1.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: serve.sh MODEL HEAD [PORT]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
model=$(realpath "$1") head=$(realpath "$2") port=${3:-8080}
build=$here/../../build
[ -d "$build" ] || build=$PWD
root=${NGINX_ROOT:-$build/nginx}
lua=${DISTAC_LUA:-$build/lua/5.1}
[ -d "$lua" ] || lua=$here/../../../../lua/5.1 # this is an installation's share/doc/distac/examples/nginx
[ -x "$root/usr/sbin/nginx" ] || "$here/fetch.sh" "$root"

# nginx finds everything below one folder, its prefix.
prefix=$(mktemp -d)
server=""
stop() { kill -QUIT ${server:+"$server"} 2>/dev/null && wait "$server" || true; rm -rf "$prefix"; }
trap stop EXIT
trap 'exit 0' INT TERM
mkdir "$prefix/app"
ln -s "$(realpath "$root")/usr/lib/nginx/modules" "$prefix/modules"
ln -s "$(realpath "$root")/usr/share/lua/5.1" "$prefix/resty"
ln -s "$(realpath "$lua")" "$prefix/lua"
ln -s "$here"/*.lua "$here/../classify.lua" "$prefix/app"
sed "s/127.0.0.1:8080/127.0.0.1:$port/" "$here/nginx.conf" >"$prefix/nginx.conf"

export LD_LIBRARY_PATH
LD_LIBRARY_PATH=$(cd "$root"/usr/lib/*-linux-gnu* && pwd)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
MODEL=$model HEAD=$head "$root/usr/sbin/nginx" -e stderr -p "$prefix" -c nginx.conf -g "user $(id -un);" &
server=$!
wait "$server"
