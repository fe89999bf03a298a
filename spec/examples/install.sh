#!/usr/bin/env bash
# Installs into an empty folder, moves that elsewhere, and builds and runs every embedding example from outside the
# source tree: with pkg-config alone, with CMake alone, and with the static libraries. Usage: install.sh BUILD
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. spec/examples/embed_checks.sh

cmake --install "$build" --prefix "$work/first" >"$work/install.log" || { tail "$work/install.log"; problem "installing failed"; }
mkdir "$work/moved" && mv "$work/first" "$work/moved/here"
prefix=$work/moved/here
libdir=$(dirname "$(find "$prefix" -name libdistac.so)")
source=$work/source
mv "$prefix/share/doc/distac/examples" "$source" # all that the builds below see of the examples
examples=$source
cd "$work"

distac=$prefix/bin/distac library=$libdir/libdistac.so
lua54=("LUA_PATH=$prefix/share/lua/5.4/?.lua;$prefix/share/lua/5.4/?/init.lua" "LUA_CPATH=$libdir/lua/5.4/?.so")
lua51=("LUA_PATH=$prefix/share/lua/5.1/?.lua;$prefix/share/lua/5.1/?/init.lua" LUA_CPATH=)

for file in share/man/man1/distac.1 share/bash-completion/completions/distac include/distac.h include/distac_script.h \
    share/distac/recipes/low_confidence.lua share/distac/mini8/backbone.safetensors share/doc/distac/LICENSE; do
    [ -s "$prefix/$file" ] || problem "$file was not installed"
done

# Nothing of the build or source tree is used any more: files and libraries come from where the prefix was moved to.
cat >own.lua <<'LUA'
local distac, prefix = require "distac", ...
for name, path in pairs(distac.paths) do assert(path:sub(1, #prefix + 1) == prefix .. "/", name .. " is " .. path) end
local seen = 0
for line in io.lines "/proc/self/maps" do
    local path = line:match "(/%S*libdistac%S*)" or line:match "(/%S*raw%.so)"
    if path then
        seen = seen + 1
        assert(path:sub(1, #prefix + 1) == prefix .. "/", path .. " is in use")
    end
end
assert(seen > 0)
assert(distac.suites and distac.json and #require("distac.docs") >= 0)
LUA
"$distac" own.lua "$prefix"
if command -v lua5.4 >/dev/null; then env "${lua54[@]}" lua5.4 own.lua "$prefix"; fi
if command -v luajit >/dev/null; then env "${lua51[@]}" luajit own.lua "$prefix"; fi
cat >own.c <<'C'
#include <distac_script.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) { /* runs argv[1] in the host library, as the program above does */
    distac_script *script;
    char text[4096];
    if (argc != 3 || distac_script_open(NULL, &script)) return 2;
    snprintf(text, sizeof text, "assert(loadfile('%s'))('%s')", argv[1], argv[2]);
    int bad = distac_script_run_string(script, text, (int64_t)strlen(text), "=own") != DISTAC_OK;
    if (bad) fprintf(stderr, "%s\n", distac_script_error(script));
    distac_script_close(script);
    return bad;
}
C

flags=(-Wall -Wextra -Werror)
export CMAKE_GENERATOR=Ninja PKG_CONFIG_PATH=$libdir/pkgconfig
version=$(pkg-config --modversion distac)
[ "$("$distac" -e 'print(require("distac").version)')" = "$version" ] || problem "distac.pc has another version than the engine"

# ---- pkg-config alone. The prefix is not the system's, so programs are told where the library is.
bin=$work/pkg-config
mkdir "$bin"
rpath=-Wl,-rpath,$(pkg-config --variable=libdir distac)
# shellcheck disable=SC2046
{
    "${CC:-cc}" -std=c11 "${flags[@]}" "$source/embed_core.c" $(pkg-config --cflags --libs distac) "$rpath" -o "$bin/embed_core"
    "${CXX:-c++}" -std=c++17 "${flags[@]}" "$source/embed.cpp" $(pkg-config --cflags --libs distac) "$rpath" -o "$bin/embed_cpp"
    "${CC:-cc}" -std=c11 "${flags[@]}" "$source/embed_recipe.c" $(pkg-config --cflags --libs distac-script) -pthread "$rpath" \
        -o "$bin/embed_recipe"
    "${CC:-cc}" -std=c11 "${flags[@]}" own.c $(pkg-config --cflags --libs distac-script) "$rpath" -o own
    for vm in lua5.4 luajit; do
        pkg-config --exists $vm || continue
        "${CC:-cc}" -std=c11 "${flags[@]}" "$source/embed_lua_state.c" $(pkg-config --cflags --libs $vm) -o "$bin/embed_$vm"
    done
}
./own own.lua "$prefix"
check_all

# ---- CMake alone; the version that the package claims counts
bin=$work/cmake
cmake -S "$source" -B "$bin" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release "-DCMAKE_C_FLAGS=${flags[*]}" \
    "-DCMAKE_CXX_FLAGS=${flags[*]}" >cmake.log 2>&1 && cmake --build "$bin" >>cmake.log 2>&1 || { tail -n 30 cmake.log; problem "CMake failed"; }
check_all
mkdir newer
printf 'cmake_minimum_required(VERSION 3.22)\nproject(x C)\nfind_package(distac 99 REQUIRED)\n' >newer/CMakeLists.txt
refused 1 "$version" cmake -S newer -B newer/build -DCMAKE_PREFIX_PATH="$prefix"

# ---- the static libraries: with CMake's targets, then with pkg-config --static where there are no shared ones
mkdir static
cat >static/CMakeLists.txt <<'CMAKE'
cmake_minimum_required(VERSION 3.22)
project(static C)
find_package(distac REQUIRED)
find_package(Threads REQUIRED)
add_executable(embed_core ${SOURCE}/embed_core.c)
target_link_libraries(embed_core PRIVATE distac::distac_static)
add_executable(embed_recipe ${SOURCE}/embed_recipe.c)
target_link_libraries(embed_recipe PRIVATE distac::script_static Threads::Threads)
CMAKE
bin=$work/static/build
cmake -S static -B "$bin" -DCMAKE_PREFIX_PATH="$prefix" -DSOURCE="$source" >cmake.log 2>&1 && cmake --build "$bin" >>cmake.log 2>&1 ||
    { tail -n 30 cmake.log; problem "CMake failed with the static libraries"; }
ldd "$bin/embed_core" "$bin/embed_recipe" | grep distac && problem "a static program wants the shared library"
check_core
refused 1 "EINVAL: .*nowhere.lua" env "LUA_PATH=$prefix/share/lua/5.4/?.lua" "$bin/embed_recipe" "$work/nowhere.lua" "$work/x"

rm "$libdir"/libdistac.so* "$libdir"/libdistac-script.so*
# shellcheck disable=SC2046
"${CC:-cc}" -std=c11 "${flags[@]}" "$source/embed_core.c" $(pkg-config --static --cflags --libs distac) -o "$bin/embed_core"
"$bin/embed_core" "$data/base.safetensors" "$data/latin.safetensors" "$data/hebrew.safetensors" "$work/merged.safetensors" \
    "$data/latin-head.safetensors" "${pictures[0]}" | diff - <(head -n 1 "$work/classify.out") || problem "the static embed_core answers otherwise"
# shellcheck disable=SC2046
"${CC:-cc}" -std=c11 "${flags[@]}" "$source/embed_recipe.c" $(pkg-config --static --cflags --libs distac-script) -pthread -o "$bin/embed_recipe"
