#!/usr/bin/env bash
# Everything that needs a GPU: specs of the CUDA backend on a real device, compute-sanitizer, benchmarks beside PyTorch,
# the table of results.
#   spec/gpu.sh                 all parts that are not done yet, each at most 8 minutes; run again to continue
#   spec/gpu.sh PART...         these parts, done or not           spec/gpu.sh --list     the parts and how they stand
#   spec/gpu.sh --pack FOLDER   on a machine that builds: programs, module and their libraries, for a machine that has a
#                               driver and nothing else; there: FOLDER/spec/gpu.sh
# Needs no network. BUILD: the build folder (build-gpu), or a pack's; PYTHON: an interpreter with torch 2 (python3);
# GPU_STATE: where results are kept (BUILD/gpu). What is missing is said by name, and its parts are skipped.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
root=$PWD
if [ -f pack.txt ]; then packed=1 build=$root/bin; else packed=0 build=${BUILD:-$root/build-gpu}; fi
state=${GPU_STATE:-$build/gpu}
python=${PYTHON:-python3}
limit=480
mkdir -p "$state"
if [ $packed = 1 ]; then export LD_LIBRARY_PATH="$root/lib:$root/bin:/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"; fi
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

# ---- parts: a function each; 0 done, 77 skipped (its last line says why), else failed ----
parts="build ops numerics models identity memcheck racecheck initcheck
       b32-bf16 b32-tf32 b32-f32 l14-bf16 l14-tf32 l14-f32 b32-500
       torch-b32-bf16-eager torch-b32-bf16-compile torch-b32-f32-eager torch-b32-f32-compile
       torch-l14-bf16-eager torch-l14-bf16-compile torch-l14-f32-eager torch-l14-f32-compile
       models-b32 tsvm-b32 torch-tsvm-b32 models-l14 tsvm-l14 torch-tsvm-l14 startup table"
tests="test_kernels test_kernels_flat test_kernels_rows test_kernels_narrow test_kernel_gradients test_numerics test_products test_device"

# within COMMAND...: in what is left of the part's time
within() {
    local left=$((limit - (SECONDS - start)))
    [ $left -gt 0 ] || { echo "the part's $limit seconds are over"; return 124; }
    timeout -k 5 $left "$@"
}
skip() { echo "$*"; return 77; }
gpu() { [ -n "${GPU_FORCE:-}" ] || nvidia-smi -L >/dev/null 2>&1 || { echo "no GPU: nvidia-smi lists none"; return 77; }; }
program() { # NAME: its path, if it was built
    for at in "$build/spec/$1" "$build/$1"; do if [ -x "$at" ]; then echo "$at"; return 0; fi; done
    return 1
}

missing() { # what a build needs and this machine lacks; of libraries it needs none (core/libraries.cmake)
    local lacking=() tool
    for tool in cmake gcc g++; do command -v $tool >/dev/null || lacking+=("$tool"); done
    command -v ninja >/dev/null || command -v make >/dev/null || lacking+=("ninja or make")
    command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || lacking+=("nvcc")
    echo "${lacking[*]}"
}
part_build() { # CMAKE_OPTIONS: others than -DDISTAC_CUDA=ON
    if [ $packed = 1 ]; then skip "this is a pack: built elsewhere"; return; fi
    local lacking generator=() target targets=(bench_device)
    lacking=$(missing)
    if [ -n "$lacking" ]; then
        skip "missing here: $lacking. Build a pack where they are: spec/gpu.sh --pack FOLDER"
        return
    fi
    command -v ninja >/dev/null && generator=(-G Ninja)
    # shellcheck disable=SC2086
    cmake -S . -B "$build" "${generator[@]}" ${CMAKE_OPTIONS:--DDISTAC_CUDA=ON} || return
    for target in $tests distac distac_cuda distac_cuda_emulated; do
        case " $(cmake --build "$build" --target help) " in *[[:space:]]$target[:[:space:]]*) targets+=("$target") ;; esac
    done
    # What is built stays built: another run goes on after the time is over.
    within cmake --build "$build" -j "$(nproc)" --target "${targets[@]}"
}

spec_part() { # PROGRAM: a C test whose cases run on the device
    local at
    gpu || return
    at=$(program "$1") || { skip "$1 is not built"; return; }
    local out
    out=$(within "$at" 2>&1)
    local code=$?
    printf '%s\n' "$out"
    if [ $code = 0 ] && grep -q '^skipped:' <<<"$out"; then echo "the device's cases were skipped"; return 1; fi
    return $code
}
part_ops() { spec_part test_kernels && spec_part test_kernels_flat && spec_part test_kernels_rows && spec_part test_kernels_narrow && spec_part test_kernel_gradients; }
part_numerics() { spec_part test_numerics && spec_part test_products; }
part_models() { spec_part test_device; }
part_identity() { # the same numbers from two processes
    gpu || return
    local at a b
    at=$(program bench_device) || { skip "bench_device is not built"; return; }
    a=$(within "$at" b32 bf16 32 1 20 | sed 's/.*"loss"://') && b=$(within "$at" b32 bf16 32 1 20 | sed 's/.*"loss"://') || return 1
    echo "loss after 20 steps: $a $b"
    [ "$a" = "$b" ]
}
sanitize() { # TOOL
    gpu || return
    local tool at
    tool=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
    if [ ! -x "$tool" ]; then skip "compute-sanitizer is not installed"; return; fi
    for test in test_kernels_flat test_device; do
        at=$(program "$test") || { skip "$test is not built"; return; }
        within "$tool" --tool "$1" --error-exitcode 9 "$at" || return
    done
}
part_memcheck() { sanitize memcheck; }
part_racecheck() { sanitize racecheck; }
part_initcheck() { sanitize initcheck; }

bench() { # SIZE PRODUCTS [STEPS]
    gpu || return
    local at
    at=$(program bench_device) || { skip "bench_device is not built"; return; }
    within "$at" "$1" "$2" "${GPU_BATCH:-128}" "${GPU_SECONDS:-30}" "${3:-0}"
}
peer() { # what torch_gpu.py is told
    gpu || return
    "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null ||
        { skip "$python has no torch that sees a GPU (set PYTHON)"; return; }
    within "$python" spec/bench/torch_gpu.py "$@"
}
engine() { # the command line
    if [ -x "$build/distac" ]; then echo "$build/distac"; else return 1; fi
}
models_of() { # SIZE: a base and eight models
    local at
    gpu || return
    at=$(engine) || { skip "the program distac is not built"; return; }
    mkdir -p "$state/$1" && within "$at" spec/bench/make_models.lua "$1" "$state/$1" 8
}
tsvm() { # SIZE: 8 models merged on the device
    local at start end
    gpu || return
    at=$(engine) || { skip "the program distac is not built"; return; }
    if [ ! -f "$state/$1/m8.safetensors" ]; then skip "no models: run the part models-$1"; return; fi
    start=$(date +%s.%N)
    within "$at" merge --device cuda --base "$state/$1/base.safetensors" --method tsvm --lambda 0.4 --force --quiet \
        -o "$state/$1/merged.safetensors" "$state/$1"/m?.safetensors || return
    end=$(date +%s.%N)
    echo "{\"who\":\"distac\",\"what\":\"tsvm\",\"size\":\"$1\",\"models\":8,\"seconds\":$(awk "BEGIN{print $end-$start}"),\"note\":\"whole process, files included\"}"
}
part_startup() {
    gpu || return
    local at
    at=$(program bench_device) || { skip "bench_device is not built"; return; }
    for _ in 1 2 3; do "$at" tiny f32 8 0.1 || return; done
}
run_part() {
    case $1 in
    torch-tsvm-*) peer tsvm "${1##*-}" ;;
    torch-*) local q; IFS=- read -r -a q <<<"$1"; peer step "${q[1]}" "${q[2]}" "${q[3]}" "${GPU_BATCH:-128}" "${GPU_SECONDS:-30}" ;;
    tsvm-*) tsvm "${1#tsvm-}" ;;
    models-*) models_of "${1#models-}" ;;
    b32-500) bench b32 bf16 500 ;;
    b32-* | l14-*) bench "${1%-*}" "${1#*-}" ;;
    *) "part_$1" ;;
    esac
}

# ---- the table ----
part_table() {
    local out day device
    day=$(date +%Y-%m-%d)
    device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1)
    if [ -z "$device" ]; then skip "no GPU: no table"; return; fi
    mkdir -p spec/bench/results
    out=spec/bench/results/gpu-$day.md
    {
        echo "# On a GPU, $day"
        echo
        echo "Device and driver: $device. Toolkit: $( (nvcc --version || /usr/local/cuda/bin/nvcc --version) 2>/dev/null | grep -o 'release [0-9.]*')."
        echo "Made by spec/gpu.sh; batch ${GPU_BATCH:-128}. Shares are of the largest matrix product measured in the same process."
        echo
        echo "| part | result |"
        echo "|---|---|"
        for part in $parts; do
            [ "$part" = table ] && continue
            if [ -f "$state/$part.status" ]; then
                printf '| %s | %s |\n' "$part" "$(cat "$state/$part.status") $(grep '^{' "$state/$part.log" 2>/dev/null | tail -1 | tr '|' ' ')"
            else
                printf '| %s | not run |\n' "$part"
            fi
        done
    } >"$out"
    echo "$out"
}

# ---- a pack ----
pack() {
    local to=$1 at library
    [ -n "$to" ] || { echo "usage: spec/gpu.sh --pack FOLDER" >&2; exit 2; }
    mkdir -p "$to/bin/spec" "$to/lib" "$to/spec/bench" || exit 1
    for name in $tests bench_device; do
        at=$(program "$name") || { echo "$name is not built: run spec/gpu.sh build and cmake --build $build --target bench_device" >&2; exit 1; }
        cp "$at" "$to/bin/spec/" && strip "$to/bin/spec/$name"
    done
    for name in distac libdistac-cuda.so; do [ -e "$build/$name" ] && cp -L "$build/$name" "$to/bin/"; done
    cp -L "$build"/libdistac.so.[0-9] "$to/bin/" 2>/dev/null
    [ -d "$build/lua" ] && cp -rL "$build/lua" "$to/bin/"
    # The C library is the machine's, the toolkit's are too large to carry: they come from it or from its driver's folder.
    # The matrix libraries are loaded by name when a context opens (tensor/lapack.c); where they lie the linker knows.
    for name in $(grep -aoE 'lib(lapacke|openblas)[-a-z0-9_]*\.so[.0-9]*' "$to/bin/spec/bench_device" | sort -u); do
        library=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p | awk -v name="$name" '$1 == name {print $NF; exit}')
        [ -n "$library" ] && cp -L "$library" "$to/lib/$name"
    done
    for library in $(ldd "$to"/bin/spec/* "$to/bin/distac" "$to"/lib/* 2>/dev/null | awk '$3 ~ /^\// {print $3}' | sort -u |
        grep -vE '/(libc|libm|libdl|libpthread|ld-linux[^/]*|librt)\.so|/libdistac|/libcu|/libnv'); do
        cp -L "$library" "$to/lib/" 2>/dev/null
    done
    cp spec/gpu.sh "$to/spec/" && cp spec/bench/torch_gpu.py spec/bench/make_models.lua "$to/spec/bench/"
    date -u +%FT%TZ >"$to/pack.txt"
    du -sh "$to"
}

case ${1:-} in
--list)
    for part in $parts; do printf '%-24s %s\n' "$part" "$(cat "$state/$part.status" 2>/dev/null || echo 'not run')"; done
    exit 0 ;;
--pack) pack "${2:-}"; exit ;;
-*) sed -n '2,12p' "$0"; exit 2 ;;
esac

passed=0 failed=0 skipped=0
chosen=$parts
if [ $# -gt 0 ]; then chosen="$*"; fi
for part in $chosen; do
    grep -qw -- "$part" <<<"$parts" || { echo "no such part: $part (spec/gpu.sh --list)" >&2; exit 2; }
    if [ $# = 0 ] && [ "$part" != table ] && grep -q '^done' "$state/$part.status" 2>/dev/null; then
        passed=$((passed + 1))
        continue
    fi
    start=$SECONDS
    run_part "$part" >"$state/$part.log" 2>&1
    code=$?
    case $code in
    0) passed=$((passed + 1)); echo "done in $((SECONDS - start)) s" >"$state/$part.status" ;;
    77) skipped=$((skipped + 1)); echo "skipped: $(tail -1 "$state/$part.log")" >"$state/$part.status" ;;
    *) failed=$((failed + 1)); echo "failed ($code): $(tail -1 "$state/$part.log")" >"$state/$part.status" ;;
    esac
    printf '%-24s %s\n' "$part" "$(cat "$state/$part.status")"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
