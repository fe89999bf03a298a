#!/usr/bin/env bash
# Makes the rock for Lua 5.4 in a tree of its own, from a copy of the sources, and uses it; where it takes long it is
# given up. Usage: rock.sh BUILD
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
problem() { echo "rock: $*" >&2; exit 1; }
for tool in luarocks lua5.4; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
mkdir "$work/source"
cp -r CMakeLists.txt LICENSE README.md bindings core lua recipes examples "$work/source"

# The CUDA module would take minutes: a compiler that is not there leaves it out.
export CUDACXX=/none CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)} CMAKE_GENERATOR=Ninja
if command -v ccache >/dev/null; then export CMAKE_C_COMPILER_LAUNCHER=ccache; fi
status=0
(cd "$work/source" && timeout "${DISTAC_ROCK_SECONDS:-300}" luarocks --lua-version 5.4 --tree "$work/tree" \
    make bindings/distac-scm-1.rockspec) >"$work/log" 2>&1 || status=$?
[ $status != 124 ] || { echo "luarocks took longer than ${DISTAC_ROCK_SECONDS:-300} s (DISTAC_ROCK_SECONDS)"; exit 77; }
[ $status = 0 ] || { tail -n 30 "$work/log"; problem "luarocks failed"; }
rm -rf "$work/source"

cat >"$work/use.lua" <<'LUA'
local distac, tree = require "distac", ...
for name, path in pairs(distac.paths) do assert(path:sub(1, #tree) == tree, name .. " is " .. path) end
local model = distac.vit(distac.load(distac.paths.mini8 .. "/backbone.safetensors"))
assert(model:features(distac.zeros { 1, 1, 28, 28 }):shape()[2] == model:config().dim)
LUA
(cd / && env LUA_PATH="$work/tree/share/lua/5.4/?.lua;$work/tree/share/lua/5.4/?/init.lua" \
    LUA_CPATH="$work/tree/lib/lua/5.4/?.so" lua5.4 "$work/use.lua" "$work/tree") || problem "the rock's module does not work"
