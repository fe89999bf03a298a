#!/usr/bin/env bash
# Builds the embedding examples against the build tree and runs them. Usage: embed.sh BUILD
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bin=$work/bin distac=$build/distac library=$build/libdistac.so
lua54=("LUA_PATH=$build/lua/5.4/?.lua;$build/lua/5.4/?/init.lua" "LUA_CPATH=$build/lua/5.4/?.so")
lua51=("LUA_PATH=$build/lua/5.1/?.lua;$build/lua/5.1/?/init.lua")
. spec/examples/embed_checks.sh

mkdir "$bin"
flags=(-Wall -Wextra -Wconversion -Wshadow -Werror)
tree=(-Icore -Ibindings/script "-L$build" "-Wl,-rpath,$build")
"${CC:-cc}" -std=c11 "${flags[@]}" examples/embed_core.c "${tree[@]}" -ldistac -o "$bin/embed_core"
"${CXX:-c++}" -std=c++17 "${flags[@]}" examples/embed.cpp "${tree[@]}" -ldistac -o "$bin/embed_cpp"
"${CC:-cc}" -std=c11 "${flags[@]}" examples/embed_recipe.c "${tree[@]}" -ldistac-script -ldistac -pthread -o "$bin/embed_recipe"
for vm in lua5.4 luajit; do
    # shellcheck disable=SC2046
    if pkg-config --exists $vm; then
        "${CC:-cc}" -std=c11 "${flags[@]}" examples/embed_lua_state.c $(pkg-config --cflags --libs $vm) -o "$bin/embed_$vm"
    fi
done
check_all
