#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test: C tests, the Lua specs on Lua 5.4, LuaJIT and LuaJIT with
# the compiler off, the same under the address and undefined-behaviour sanitizers, short fuzz runs. The last line is
#   N passed, M failed, K skipped
# spec/run.sh --install-only installs the packages and stops. spec/run.sh NAME... runs only those lanes.
set -uo pipefail
cd "$(dirname "$0")/.."

bash examples/install.sh || exit 1
[ "${1:-}" = --install-only ] && exit 0

passed=0 failed=0 skipped=0
logs=$PWD/build/spec-logs
mkdir -p "$logs"
wanted=${*:-gcc-build c lua54 luajit luajit-joff clang-build sanitize fuzz examples}
jobs=$(nproc)

say() { printf '%s\n' "$*"; }

# count PASSED FAILED SKIPPED: adds to the totals
count() { passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3)); }

# step NAME COMMAND...: one test that is a command; its output is shown when it fails
step() {
    local name=$1 log="$logs/${1//[ \/]/_}.log"
    shift
    if "$@" >"$log" 2>&1; then
        say "ok      $name"
        count 1 0 0
    else
        say "FAILED  $name (exit $?)"
        tail -n 60 "$log"
        count 0 1 0
        return 1
    fi
}

# configure_and_build FOLDER OPTIONS...: warnings are errors here
build_tree() {
    local folder=$1
    shift
    cmake -S . -B "$folder" -G Ninja -DCMAKE_C_FLAGS=-Werror "$@" && ninja -C "$folder" -j "$jobs"
}

# c_tests LANE FOLDER: every cmocka program; each of its tests counts
c_tests() {
    local lane=$1 folder=$2 program out ok bad
    for program in "$folder"/spec/test_*; do
        [ -x "$program" ] && [ -f "$program" ] || continue
        out="$logs/$lane-$(basename "$program").log"
        timeout 900 env CMOCKA_MESSAGE_OUTPUT=STDOUT "$program" >"$out" 2>&1
        local status=$?
        ok=$(grep -c '^\[       OK \]' "$out")
        bad=$(grep -c '^\[  FAILED  \].*[^:]$' "$out" || true)
        local skips
        skips=$(grep -c '^\[  SKIPPED \] [a-z_0-9]*$' "$out" || true)
        if [ $status -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
        if [ "$ok" -eq 0 ] && [ "$bad" -eq 0 ] && [ "$skips" -eq 0 ]; then bad=1; fi
        count "$ok" "$bad" "$skips"
        if [ "$bad" -gt 0 ]; then
            say "FAILED  $lane $(basename "$program") (exit $status)"
            grep -v '^\[ *\(RUN\|OK\) ' "$out" | tail -n 40
        else
            say "ok      $lane $(basename "$program"): $ok tests"
        fi
    done
}

# busted_specs LANE LUA-FOLDER INTERPRETER-OPTIONS...: all Lua specs, in one process per file
busted_specs() {
    local lane=$1 folder=$2 version=$3 file out line status
    shift 3
    for file in spec/*_spec.lua; do
        out="$logs/$lane-$(basename "$file" .lua).log"
        timeout 1200 env LUA_PATH="$folder/lua/$version/?.lua;$folder/lua/$version/?/init.lua;$PWD/?.lua;;" \
            LUA_CPATH="$folder/lua/$version/?.so;;" DISTAC_BUILD="$folder" \
            "$@" -o TAP "$file" >"$out" 2>&1
        status=$?
        local ok bad skips
        ok=$(grep -c '^ok ' "$out")
        skips=$(grep -c '^ok .*# SKIP' "$out" || true)
        bad=$(grep -c '^not ok ' "$out" || true)
        ok=$((ok - skips))
        if [ $status -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
        if [ "$ok" -eq 0 ] && [ "$bad" -eq 0 ] && [ "$skips" -eq 0 ]; then bad=1; fi
        count "$ok" "$bad" "$skips"
        if [ "$bad" -gt 0 ]; then
            say "FAILED  $lane $(basename "$file") (exit $status)"
            grep -v '^ok ' "$out" | head -n 60
        else
            say "ok      $lane $(basename "$file"): $ok tests"
        fi
    done
}

has() { case " $wanted " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

build=$PWD/build
if has gcc-build; then
    step "gcc build" build_tree "$build" -DCMAKE_C_COMPILER=gcc || { say "$passed passed, $failed failed, $skipped skipped"; exit 1; }
fi
if has c; then c_tests c "$build"; fi
if has lua54; then busted_specs lua54 "$build" 5.4 busted --lua=/usr/bin/lua5.4; fi
if has luajit; then busted_specs luajit "$build" 5.1 busted --lua=/usr/bin/luajit; fi
if has luajit-joff; then
    printf '#!/bin/sh\nexec /usr/bin/luajit -joff "$@"\n' >"$build/luajit-joff" && chmod +x "$build/luajit-joff"
    busted_specs luajit-joff "$build" 5.1 busted --lua="$build/luajit-joff"
fi
if has clang-build; then step "clang build" build_tree "$PWD/build-clang" -DCMAKE_C_COMPILER=clang; fi
if has sanitize; then
    if step "sanitizer build" build_tree "$PWD/build-asan" -DDISTAC_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=RelWithDebInfo; then
        export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
        c_tests sanitize "$PWD/build-asan"
        unset ASAN_OPTIONS UBSAN_OPTIONS
    fi
fi
if has fuzz; then
    for program in "$PWD"/build-asan/spec/fuzz_*; do
        [ -x "$program" ] && [ -f "$program" ] || continue
        step "fuzz $(basename "$program")" timeout 300 "$program"
    done
fi
if has examples; then
    for script in spec/examples/*.sh; do
        [ -f "$script" ] && step "$(basename "$script" .sh)" bash "$script" "$build"
    done
fi

say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
