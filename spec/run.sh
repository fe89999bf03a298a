#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test: C tests, the Lua specs on Lua 5.4, LuaJIT and LuaJIT with
# the compiler off, C tests and Lua specs under the address and undefined-behaviour sanitizers, the C tests of the
# threads under the thread sanitizer, short fuzz runs, the CUDA module without a driver and its sources on an emulated
# device. The last line is
#   N passed, M failed, K skipped
# A program that crashes or runs no test has failed; a lane whose tools are not there is skipped by name.
# spec/run.sh --install-only installs the packages and stops. spec/run.sh NAME... runs only those lanes.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

lanes="gcc-build c lua54 luajit luajit-joff clang-build sanitize tsan fuzz examples cuda cuda-emulated"
if [ "${1:-}" = --install-only ]; then exec bash examples/install.sh; fi
for lane in "$@"; do
    case " $lanes " in
        *" $lane "*) ;;
        *) echo "run.sh: there is no lane $lane; the lanes are: $lanes" >&2; exit 2 ;;
    esac
done
bash examples/install.sh || echo "run.sh: packages are missing; the lanes that need them are skipped or fail" >&2

passed=0 failed=0 skipped=0
logs=$PWD/build/spec-logs
mkdir -p "$logs"
wanted=${*:-$lanes}
jobs=$(nproc)

say() { printf '%s\n' "$*"; }

# count PASSED FAILED SKIPPED: adds to the totals
count() { passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3)); }

# fail NAME WHY: says so now and again at the end
failures=()
fail() {
    say "FAILED  $1 ($2)"
    failures+=("$1")
}

# step NAME COMMAND...: one test that is a command; its output is shown when it fails. Status 77 means that it could not
# be run here, and the last line says why.
step() {
    local name=$1 log="$logs/${1//[ \/]/_}.log" status=0 began=$SECONDS
    shift
    "$@" >"$log" 2>&1 || status=$?
    if [ $status = 0 ]; then
        say "ok      $name, $((SECONDS - began)) s"
        count 1 0 0
    elif [ $status = 77 ]; then
        say "skipped $name: $(tail -n 1 "$log")"
        count 0 0 1
    else
        fail "$name" "exit $status"
        tail -n 60 "$log"
        count 0 1 0
        return 1
    fi
}

# build_tree FOLDER COMPILER OPTIONS... [-- TARGET...]: warnings are errors here. A folder that another compiler built
# is begun anew: CMake, told another compiler, would forget the other options.
build_tree() {
    local folder=$1 compiler options=() before
    compiler=$(command -v "$2") || { echo "$2 is not installed"; return 1; }
    shift 2
    before=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$folder/CMakeCache.txt" 2>/dev/null)
    if [ -n "$before" ] && [ "$(realpath "$before")" != "$(realpath "$compiler")" ]; then
        rm -rf "$folder/CMakeCache.txt" "$folder/CMakeFiles"
    fi
    while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1"); shift; done
    [ $# -gt 0 ] && shift
    CC=$compiler cmake -S . -B "$folder" -G Ninja -DCMAKE_C_FLAGS=-Werror "${options[@]}" &&
        ninja -C "$folder" -j "$jobs" "$@"
}

# needs LANE TOOL...: are the lane's tools there? If not it is skipped, and says so.
needs() {
    local lane=$1 tool
    shift
    for tool in "$@"; do
        if ! command -v "$tool" >/dev/null; then
            say "skipped $lane: $tool is not installed"
            count 0 0 1
            return 1
        fi
    done
}

# ---- As many programs at once as there are processors. Their results are counted and told in the order of the list.
# What measures time or is sent signals runs alone, afterwards.
alone=" program_spec resume_spec repl_spec repl_terminal_spec merge_safety_spec tokenizer_spec test_host_script "
lane="" queue=() told=0 tell=""

# begin LANE HOW: a new list; HOW NAME LOG STATUS counts a result, and tells one that is not good
begin() {
    lane=$1 tell=$2 queue=() told=0
    before_passed=$passed before_failed=$failed before_skipped=$skipped before_seconds=$SECONDS
}

# put NAME LOG COMMAND...: runs it as soon as there is room
put() {
    local name=$1 log=$2
    shift 2
    rm -f "$log.status"
    queue+=("$name|$log")
    if [[ "$alone" == *" $name "* ]]; then
        wait_all
        "$@" >"$log" 2>&1
        echo $? >"$log.status"
    else
        while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
        { "$@" >"$log" 2>&1; echo $? >"$log.status"; } &
    fi
    tell_done
}

tell_done() {
    local name log
    while [ $told -lt ${#queue[@]} ]; do
        IFS='|' read -r name log <<<"${queue[told]}"
        [ -s "$log.status" ] || return 0
        told=$((told + 1))
        "$tell" "$name" "$log" "$(cat "$log.status")"
    done
}

wait_all() { wait; tell_done; }

# The end of a list: one line for all of it.
finish_all() {
    wait_all
    if [ ${#queue[@]} = 0 ]; then
        fail "$lane" "there was nothing to run"
        count 0 1 0
        return
    fi
    say "$([ $failed = "$before_failed" ] && echo "ok     " || echo FAILED) $lane: $((passed - before_passed)) tests in" \
        "${#queue[@]} programs, $((failed - before_failed)) failed, $((skipped - before_skipped)) skipped," \
        "$((SECONDS - before_seconds)) s"
}

# The names given, those that run alone last.
alone_last() {
    local name
    for name in "$@"; do [[ "$alone" == *" $name "* ]] || echo "$name"; done
    for name in "$@"; do [[ "$alone" != *" $name "* ]] || echo "$name"; done
}

# c_tests LANE FOLDER [TEST...]: every cmocka program, or these; each of its tests counts
c_tests() {
    local folder=$2 name names=()
    local lane_name=$1
    shift 2
    if [ $# -eq 0 ]; then for name in "$folder"/spec/test_*; do names+=("$(basename "$name")"); done; else names=("$@"); fi
    begin "$lane_name" tell_c
    for name in $(alone_last "${names[@]}"); do
        if [ -x "$folder/spec/$name" ] && [ -f "$folder/spec/$name" ]; then
            put "$name" "$logs/$lane-$name.log" timeout 900 env CMOCKA_MESSAGE_OUTPUT=STDOUT "$folder/spec/$name"
        fi
    done
    finish_all
}

tell_c() {
    local name=$1 out=$2 status=$3 ok bad skips
    # the list at the end names the failed and the skipped again
    ok=$(grep -c '^\[       OK \]' "$out")
    bad=$(grep '^\[  FAILED  \] [A-Za-z_0-9]*$' "$out" | sort -u | grep -c .)
    skips=$(grep '^\[  SKIPPED \] [A-Za-z_0-9]*$' "$out" | sort -u | grep -c .)
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    if [ "$ok" -eq 0 ] && [ "$bad" -eq 0 ] && [ "$skips" -eq 0 ]; then bad=1; fi
    count "$ok" "$bad" "$skips"
    if [ "$bad" -gt 0 ]; then
        fail "$lane $name" "exit $status"
        grep -v '^\[ *\(RUN\|OK\) ' "$out" | tail -n 40
    fi
}

tell_fuzz() {
    if [ "$3" = 0 ]; then
        count 1 0 0
    else
        fail "fuzz $1" "exit $3"
        tail -n 60 "$2"
        count 0 1 0
    fi
}

# busted_specs LANE FOLDER LUA-VERSION COMMAND...: all Lua specs, in one process per file, but not those named in
# $without, or those named in $only alone
without="" only=""
busted_specs() {
    local folder=$2 version=$3 file name names=()
    local lane_name=$1
    shift 3
    for file in spec/*_spec.lua; do
        name=$(basename "$file" _spec.lua)
        case " $without " in *" $name "*) continue ;; esac
        case " ${only:-$name} " in *" $name "*) names+=("${name}_spec") ;; esac
    done
    begin "$lane_name" tell_busted
    for name in $(alone_last "${names[@]}"); do
        put "$name" "$logs/$lane-$name.log" timeout 1200 env \
            LUA_PATH="$folder/lua/$version/?.lua;$folder/lua/$version/?/init.lua;$PWD/?.lua;;" \
            LUA_CPATH="$folder/lua/$version/?.so;;" DISTAC_BUILD="$folder" "$@" -o TAP "spec/$name.lua"
    done
    finish_all
}

tell_busted() {
    local name=$1 out=$2 status=$3 ok bad skips
    ok=$(grep -c '^ok ' "$out")
    skips=$(grep -c '^ok .*# SKIP' "$out")
    bad=$(grep -c '^not ok ' "$out")
    ok=$((ok - skips))
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    if [ "$ok" -eq 0 ] && [ "$bad" -eq 0 ] && [ "$skips" -eq 0 ]; then bad=1; fi
    count "$ok" "$bad" "$skips"
    if [ "$bad" -gt 0 ]; then
        fail "$lane $name" "exit $status"
        grep -v '^ok ' "$out" | head -n 60
    fi
}

has() { case " $wanted " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

# lua_wrapper FILE COMMAND...: an interpreter that busted can be given by its path
lua_wrapper() {
    local file=$1
    shift
    printf '#!/bin/sh\nexec %s "$@"\n' "$*" >"$file" && chmod +x "$file"
}

# The tree with the address and undefined-behaviour sanitizers, built once for the lanes that use it.
asan_state=""
asan_tree() {
    if [ -z "$asan_state" ]; then
        asan_state=broken
        step "sanitizer build" build_tree "$asan" gcc -DDISTAC_CUDA=OFF -DDISTAC_SANITIZE=address,undefined \
            -DCMAKE_BUILD_TYPE=RelWithDebInfo && asan_state=built
    fi
    [ $asan_state = built ]
}

build=$PWD/build asan=$PWD/build-asan tsan=$PWD/build-tsan
if has gcc-build; then
    step "gcc build" build_tree "$build" gcc || { say "$passed passed, $failed failed, $skipped skipped"; exit 1; }
fi
if has c; then c_tests c "$build"; fi
if has lua54 && needs lua54 lua5.4 busted; then busted_specs lua54 "$build" 5.4 busted --lua="$(command -v lua5.4)"; fi
if has luajit && needs luajit luajit busted; then busted_specs luajit "$build" 5.1 busted --lua="$(command -v luajit)"; fi
if has luajit-joff && needs luajit-joff luajit busted; then
    lua_wrapper "$build/luajit-joff" "$(command -v luajit)" -joff
    busted_specs luajit-joff "$build" 5.1 busted --lua="$build/luajit-joff"
fi
if has clang-build && needs clang-build clang; then
    step "clang build" build_tree "$PWD/build-clang" clang -DDISTAC_CUDA=OFF -DCMAKE_BUILD_TYPE=Debug # for its warnings
fi
if has sanitize && needs sanitize gcc lua5.4 busted && asan_tree; then
    export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    export LSAN_OPTIONS=suppressions=$PWD/spec/lsan.supp:print_suppressions=0
    c_tests sanitize "$asan"
    # The engine stays loaded to the end: what OpenBLAS and others keep would look lost once they are unloaded. The
    # binding generator, the source text and gpu.sh have nothing to do with memory.
    lua_wrapper "$asan/lua-asan" env "LD_PRELOAD=$(gcc -print-file-name=libasan.so):$asan/libdistac.so" "$(command -v lua5.4)"
    without="gen source gpu" busted_specs sanitize-lua "$asan" 5.4 busted --lua="$asan/lua-asan"
    [ ! -x "$build/distac" ] || step "embedding examples with sanitizers" spec/examples_sanitized.sh address,undefined "$asan" "$build"
    unset ASAN_OPTIONS UBSAN_OPTIONS LSAN_OPTIONS
fi
if has tsan && needs tsan gcc; then
    threaded="test_base test_pool test_steps test_train test_data test_loader test_merge test_merge_random test_merge_run test_engines test_script_engines"
    # shellcheck disable=SC2086
    if step "thread sanitizer build" build_tree "$tsan" gcc -DDISTAC_CUDA=OFF -DDISTAC_SANITIZE=thread \
        -DCMAKE_BUILD_TYPE=RelWithDebInfo -- $threaded libdistac.so libdistac-script.so distac_lua; then
        export TSAN_OPTIONS=halt_on_error=1
        # shellcheck disable=SC2086
        c_tests tsan "$tsan" $threaded
        [ ! -x "$build/distac" ] || step "embedding examples with the thread sanitizer" spec/examples_sanitized.sh thread "$tsan" "$build"
        unset TSAN_OPTIONS
    fi
fi
if has fuzz && needs fuzz gcc && asan_tree; then
    begin fuzz tell_fuzz
    for program in "$asan"/spec/fuzz_*; do
        if [ -x "$program" ] && [ -f "$program" ]; then
            put "$(basename "$program")" "$logs/$(basename "$program").log" timeout 300 "$program"
        fi
    done
    finish_all
    step "fuzz targets see planted mistakes" bash spec/fuzz/control.sh "$asan"
fi
# The module for real devices, where the toolkit is there to build it: it loads on a machine without a driver.
cuda_module() {
    local out status
    [ -f "$build/libdistac-cuda.so" ] || { echo "there is no $build/libdistac-cuda.so"; return 1; }
    if ldd "$build/libdistac.so" | grep -E 'cuda|cublas|cusolver'; then echo "libdistac.so is linked with CUDA"; return 1; fi
    if ldd "$build/libdistac-cuda.so" | grep 'libcuda\.so'; then echo "the module is linked with the driver"; return 1; fi
    "$build/distac" version || return 1
    if "$build/distac" version | grep 'device cuda'; then return 0; fi # there is one: spec/gpu.sh has the rest
    out=$("$build/distac" version --device cuda 2>&1)
    status=$?
    echo "$out"
    [ $status -eq 2 ] && grep -q "no such device 'cuda': there is 'cpu' (no CUDA device" <<<"$out"
}
if has cuda; then
    nvcc=$(PATH=$PATH:/usr/local/cuda/bin:/opt/cuda/bin; command -v nvcc)
    if [ -z "$nvcc" ]; then
        say "skipped cuda: nvcc is not installed"
        count 0 0 1
    else
        step "cuda module without a driver" cuda_module
    fi
fi
if has cuda-emulated && needs cuda-emulated gcc g++ lua5.4 busted; then
    emulated=$PWD/build-cuda
    there="test_device_life test_device test_kernels test_kernels_flat test_kernels_narrow test_kernels_rows"
    # shellcheck disable=SC2086
    if step "emulated device build" build_tree "$emulated" gcc -DDISTAC_CUDA_EMULATED=ON -DDISTAC_CUDA=OFF -- \
        $there distac distac_lua distac_raw54 distac_cuda_emulated &&
        step "emulated device is listed" "$emulated/distac" -e 'assert(#require("distac").devices() == 3)'; then
        # shellcheck disable=SC2086
        c_tests cuda-emulated "$emulated" $there
        only="device device_merge device_recipe adamerging tensor train text" busted_specs cuda-emulated "$emulated" 5.4 env DISTAC_TEST_DEVICE=cuda busted --lua="$(command -v lua5.4)"
    fi
fi
if has examples; then
    any=0
    for script in spec/examples/*.sh; do
        [ -x "$script" ] || continue
        any=1
        step "$(basename "$script" .sh)" bash "$script" "$build"
    done
    if [ $any = 0 ]; then
        say "skipped examples: there are no scripts in spec/examples"
        count 0 0 1
    fi
fi

[ ${#failures[@]} = 0 ] || printf 'failed: %s\n' "${failures[@]}"
say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
