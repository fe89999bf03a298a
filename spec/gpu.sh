#!/usr/bin/env bash
# Everything that needs a GPU: specs of the CUDA backend on a real device, compute-sanitizer, benchmarks beside PyTorch,
# the table of results.
#   spec/gpu.sh                 all parts that are not done yet, each at most 8 minutes; run again to continue
#   spec/gpu.sh PART...         these parts, done or not           spec/gpu.sh --list     the parts and how they stand
#   spec/gpu.sh --pack FOLDER   on a machine that builds: programs, module and their libraries, for a machine that has a
#                               driver and nothing else; there: FOLDER/spec/gpu.sh
# Needs no network. BUILD: the build folder (build-gpu), or a pack's; PYTHON: an interpreter with torch 2 (python3).
# GPU_STATE: where results are kept (BUILD/gpu), small files; GPU_WORK: models and what PyTorch compiled (BUILD/gpu-work).
# Machines that are lent for minutes: GPU_TIME: seconds that a call may take, a part cut short by it is begun again by the
# next call; GPU_OUT: a folder that gets the results as one file, gpu.tgz, and the table, table.md, after every part;
# GPU_RESUME: such a gpu.tgz, to go on where another machine stopped. So there, again and again:
#   GPU_TIME=560 GPU_OUT=$OUT GPU_RESUME=gpu.tgz spec/gpu.sh
# What is missing is said by name, and its parts are skipped.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
root=$PWD
if [ -f pack.txt ]; then packed=1 build=$root/bin; else packed=0 build=${BUILD:-$root/build-gpu}; fi
state=${GPU_STATE:-$build/gpu}
work=${GPU_WORK:-$build/gpu-work}
python=${PYTHON:-python3}
most=480 margin=${GPU_MARGIN:-10} # seconds: of a part; between the end of the last one and that of GPU_TIME
mkdir -p "$state" || exit 2
own_libraries=${LD_LIBRARY_PATH:-} # PyTorch must not get a pack's
if [ $packed = 1 ]; then # the toolkit's libraries, or those that came with PyTorch
    came=$("$python" -c 'import glob, sys; print(":".join(d for p in sys.path for d in glob.glob(p + "/nvidia/*/lib")))' 2>/dev/null)
    export LD_LIBRARY_PATH="$root/lib:$root/bin:/usr/local/cuda/lib64${own_libraries:+:$own_libraries}${came:+:$came}"
fi
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

# ---- parts: a function each; 0 done, 77 skipped (its last line says why), else failed ----
# In the order of what is wanted most, should the time be short.
parts="build ops numerics models b32-bf16 l14-bf16 torch-b32-bf16-compile torch-l14-bf16-compile tsvm-b32 tsvm-l14
       b32-f32 l14-f32 torch-b32-bf16-eager torch-l14-bf16-eager torch-tsvm-b32 torch-tsvm-l14 merges-b32 merges-l14 b32-500 identity startup
       torch-startup specs profile-b32 profile-l14 torch-b32-f32-compile torch-l14-f32-compile torch-b32-f32-eager
       torch-l14-f32-eager torch-b32-bf16-graphs torch-b32-bf16-autotune torch-l14-bf16-autotune b32-tf32 l14-tf32
       torch-b32-tf32-compile torch-l14-tf32-compile memcheck racecheck synccheck initcheck files-b32 table"
tests="test_kernels test_kernels_flat test_kernels_rows test_kernels_narrow test_kernel_gradients test_numerics test_products test_device"
benches="bench_device bench_merge_device"

# within COMMAND...: in what is left of the part's time
within() {
    local left=$((limit - (SECONDS - start)))
    [ $left -gt 0 ] || { echo "the part's $limit seconds are over"; return 124; }
    timeout -k 5 $left "$@"
}
skip() { echo "$*"; return 77; }
gpu() { [ -n "${GPU_FORCE:-}" ] || nvidia-smi -L >/dev/null 2>&1 || { echo "no GPU: nvidia-smi lists none"; return 77; }; }
program() { # NAME: its path, if it was built
    for at in "$build/spec/$1" "$build/$1"; do if [ -x "$at" ] && [ -f "$at" ]; then echo "$at"; return 0; fi; done
    return 1
}

missing() { # what a build needs and this machine lacks; of libraries it needs none (core/libraries.cmake)
    local lacking=() tool
    for tool in cmake gcc g++; do command -v $tool >/dev/null || lacking+=("$tool"); done
    command -v ninja >/dev/null || command -v make >/dev/null || lacking+=("ninja or make")
    command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || lacking+=("nvcc")
    echo "${lacking[*]}"
}
elsewhere() { # for toolkits without them: cuBLAS and cuSOLVER as they came with PyTorch, as options of cmake
    "$python" - <<'PY'
import glob, os, sys
places = [os.path.join(p, "nvidia") for p in sys.path if os.path.isdir(os.path.join(p, "nvidia"))]
def find(*names):
    for name in names:
        for place in places:
            for found in sorted(glob.glob(os.path.join(place, "*", name))):
                return found
libraries = {name: find("lib/lib%s.so" % name, "lib/lib%s.so.*" % name) for name in ("cublasLt", "cusolver")}
headers = sorted({os.path.dirname(h) for h in (find("include/cublasLt.h"), find("include/cusolverDn.h"),
                                               find("include/cusparse.h")) if h})
if all(libraries.values()) and headers:
    flags = " ".join("-isystem " + h for h in headers)
    print("-DCMAKE_C_FLAGS=" + flags)
    print("-DCMAKE_CUDA_FLAGS=" + flags)
    for name, path in libraries.items():
        print("-DCUDA_%s_LIBRARY=%s" % (name, path))
PY
}
part_build() { # CMAKE_OPTIONS: others than -DDISTAC_CUDA=ON
    if [ $packed = 1 ]; then skip "this is a pack: built elsewhere"; return; fi
    local lacking generator=() target targets=() all
    lacking=$(missing)
    if [ -n "$lacking" ]; then
        skip "missing here: $lacking. Build a pack where they are: spec/gpu.sh --pack FOLDER"
        return
    fi
    [ -f "$build/CMakeCache.txt" ] || { command -v ninja >/dev/null && generator=(-G Ninja); }
    # shellcheck disable=SC2086
    if ! cmake -S . -B "$build" "${generator[@]}" ${CMAKE_OPTIONS:--DDISTAC_CUDA=ON}; then
        local options=()
        mapfile -t options < <(elsewhere)
        [ ${#options[@]} -gt 0 ] || return 1
        echo "with ${options[*]}"
        cmake -S . -B "$build" "${generator[@]}" ${CMAKE_OPTIONS:--DDISTAC_CUDA=ON} -U 'DISTAC_CU*_H' "${options[@]}" || return
    fi
    all=$(cmake --build "$build" --target help)
    for target in $tests $benches distac distac_lua distac_cuda distac_cuda_emulated; do
        case " $all " in *[[:space:]]${target}[:[:space:]]*) targets+=("$target") ;; esac
    done
    # What is built stays built: another run goes on after the time is over.
    within cmake --build "$build" -j "$(nproc)" --target "${targets[@]}"
}

spec_part() { # PROGRAM...: C tests whose cases run on the device
    local at out code bad=0
    gpu || return
    for name in "$@"; do
        at=$(program "$name") || { echo "$name is not built"; bad=77; continue; }
        out=$(within "$at" 2>&1)
        code=$?
        printf '%s\n' "$out"
        if [ $code = 0 ] && grep -q '^skipped:' <<<"$out"; then echo "$name: the device's cases were skipped"; return 1; fi
        if [ $code != 0 ]; then echo "$name ended with $code"; return 1; fi
    done
    if [ $bad = 77 ]; then echo "not all of $* are built: they need a library that this build is without"; fi
    return $bad
}
part_ops() { spec_part test_kernels test_kernels_flat test_kernels_rows test_kernels_narrow test_kernel_gradients; }
part_numerics() { spec_part test_numerics test_products; }
part_models() { spec_part test_device; }
part_specs() { # the Lua specs that look at devices, by a runner of our own
    gpu || return
    local at name code
    at=$(program distac) || { skip "the program distac is not built: it needs Lua's development files"; return; }
    for name in device device_merge device_recipe adamerging tensor train text; do
        DISTAC_TEST_DEVICE=cuda DISTAC_TEST_PROGRAM=$at DISTAC_BUILD=$build \
            within "$at" spec/bare.lua "spec/${name}_spec.lua"
        code=$?
        if [ $code != 0 ]; then echo "${name}_spec.lua: $code"; return 1; fi
    done
}
part_identity() { # the same numbers from two processes
    gpu || return
    local at a b
    at=$(program bench_device) || { skip "bench_device is not built"; return; }
    a=$(within "$at" "${GPU_SIZE:-b32}" bf16 32 1 20 | sed 's/.*"loss"://') &&
        b=$(within "$at" "${GPU_SIZE:-b32}" bf16 32 1 20 | sed 's/.*"loss"://') || return 1
    echo "loss after 20 steps: $a $b"
    [ -n "$a" ] && [ "$a" = "$b" ]
}
sanitize() { # TOOL PROGRAM...
    gpu || return
    local tool at code
    tool=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
    if [ ! -x "$tool" ]; then skip "compute-sanitizer is not installed"; return; fi
    for test in "${@:2}"; do
        at=$(program "$test") || continue
        within "$tool" --tool "$1" --error-exitcode 9 "$at"
        code=$?
        if [ $code != 0 ]; then echo "$1 of $test: $code"; return 1; fi
    done
}
# The matrix library reads beyond what it was given to fill, which initcheck would tell: our own kernels alone.
part_memcheck() { sanitize memcheck test_kernels_flat test_kernels_rows test_kernels_narrow test_device; }
part_racecheck() { sanitize racecheck test_kernels_narrow test_kernels_rows; }
part_synccheck() { sanitize synccheck test_kernels_narrow test_kernels_rows; }
part_initcheck() { sanitize initcheck test_kernels_flat test_kernels_rows; }

bench() { # SIZE PRODUCTS [STEPS]
    gpu || return
    local at
    at=$(program bench_device) || { skip "bench_device is not built"; return; }
    within "$at" "${GPU_SIZE:-$1}" "$2" "${GPU_BATCH:-128}" "${GPU_SECONDS:-10}" "${3:-0}"
}
peer() { # what torch_gpu.py is told
    gpu || return
    LD_LIBRARY_PATH=$own_libraries "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null ||
        { skip "$python has no torch that sees a GPU (set PYTHON)"; return; }
    mkdir -p "$work/torch" && TORCHINDUCTOR_CACHE_DIR=$work/torch TRITON_CACHE_DIR=$work/torch/triton PYTHONUNBUFFERED=1 \
        LD_LIBRARY_PATH=$own_libraries within "$python" spec/bench/torch_gpu.py "$@"
}
tsvm() { # SIZE: 8 task vectors in memory
    gpu || return
    local at
    at=$(program bench_merge_device) || { skip "bench_merge_device is not built"; return; }
    within "$at" "${GPU_SIZE:-$1}" tsvm 8 2
}
merges() { # SIZE: 8 task vectors that lie on the device, merged there
    gpu || return
    local at method
    at=$(program bench_merge_device) || { skip "bench_merge_device is not built"; return; }
    for method in average task_arithmetic ties consensus_ta tsvm; do
        within "$at" "${GPU_SIZE:-$1}" $method 8 5 there || return
    done
}
part_files_b32() { # 8 models of files to a file, as a process
    gpu || return
    local at before after folder=$work/b32
    at=$(program distac) || { skip "the program distac is not built: it needs Lua's development files"; return; }
    mkdir -p "$folder"
    [ -f "$folder/m8.safetensors" ] || within "$at" spec/bench/make_models.lua b32 "$folder" 8 || return
    for device in cpu cuda; do
        before=$(date +%s.%N)
        within "$at" merge --device $device --base "$folder/base.safetensors" --method tsvm --lambda 0.4 --force --quiet \
            -o "$folder/merged.safetensors" "$folder"/m?.safetensors || return
        after=$(date +%s.%N)
        echo "{\"who\":\"distac\",\"what\":\"files\",\"device\":\"$device\",\"size\":\"b32\",\"models\":8,\"seconds\":$(awk "BEGIN{print $after-$before}")}"
    done
}
profile() { # SIZE: where the first step's time goes, kernel by kernel
    gpu || return
    local at tool
    at=$(program bench_device) || { skip "bench_device is not built"; return; }
    tool=$(command -v ncu || echo /usr/local/cuda/bin/ncu)
    if [ ! -x "$tool" ]; then skip "ncu is not installed"; return; fi
    within "$tool" --csv --clock-control none --metrics gpu__time_duration.sum --launch-count "${GPU_KERNELS:-2500}" "$at" \
        "$1" bf16 "${GPU_BATCH:-128}" 0 1 >"$state/profile-$1.csv" 2>&1
    # Every field is quoted; the kernel's name is the fifth, the value the last.
    awk -F '","' '/gpu__time_duration/ { name = $5; sub(/\(.*/, "", name); sub(/^void /, "", name)
            value = $NF; gsub(/[",]/, "", value); unit = $(NF - 1)
            time[name] += value * (unit ~ /^(us|usecond)/ ? 1 : unit ~ /^(ms|msecond)/ ? 1000 : 0.001); calls[name]++; all++ }
        END { for (name in time) printf "%12.1f us %6d x  %s\n", time[name], calls[name], name
            if (!all) exit 1 }' "$state/profile-$1.csv" | sort -rn
    local code=$?
    [ $code = 0 ] || tail -3 "$state/profile-$1.csv"
    rm -f "$state/profile-$1.csv"
    return $code
}
part_startup() {
    gpu || return
    local at
    at=$(program bench_device) || { skip "bench_device is not built"; return; }
    for _ in 1 2 3; do within "$at" tiny f32 8 0.1 || return; done
}
run_part() {
    case $1 in
    torch-startup) peer startup ;;
    torch-tsvm-*) peer tsvm "${1##*-}" ;;
    torch-*) local q; IFS=- read -r -a q <<<"$1"; peer step "${q[1]}" "${q[2]}" "${q[3]}" "${GPU_BATCH:-128}" "${GPU_SECONDS:-10}" ;;
    merges-*) merges "${1#merges-}" ;;
    tsvm-*) tsvm "${1#tsvm-}" ;;
    files-b32) part_files_b32 ;;
    profile-*) profile "${1#profile-}" ;;
    b32-500) bench b32 bf16 "${GPU_STEPS:-500}" ;;
    b32-* | l14-*) bench "${1%-*}" "${1#*-}" ;;
    *) "part_$1" ;;
    esac
}

# ---- the table ----
part_table() { # beside the results; for a real device under spec/bench/results, too
    local day device toolkit part out=$state/table.md
    day=$(date +%Y-%m-%d)
    device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1)
    toolkit=$( (nvcc --version || /usr/local/cuda/bin/nvcc --version) 2>/dev/null | grep -o 'release [0-9.]*' | head -1)
    {
        echo "day $day"
        echo "device ${device:-no device: made-up or emulated}"
        echo "toolkit ${toolkit:-unknown}"
        echo "batch ${GPU_BATCH:-128}"
        for part in $parts; do
            [ "$part" = table ] && continue
            echo "part $part $(cat "$state/$part.status" 2>/dev/null || echo 'not run')"
            sed -n "s/^{/json $part {/p" "$state/$part.log" 2>/dev/null
        done
    } | awk -f spec/bench/gpu_table.awk >"$out.new" && mv "$out.new" "$out" || return
    echo "$out"
    if [ -n "$device" ] && [ $packed = 0 ]; then
        mkdir -p spec/bench/results && cp "$out" "spec/bench/results/gpu-$day.md" && echo "spec/bench/results/gpu-$day.md"
    fi
}
hand_over() { # what there is so far, for who takes it away
    [ -n "${GPU_OUT:-}" ] || return 0
    mkdir -p "$GPU_OUT" && part_table >/dev/null
    tar -czf "$GPU_OUT/gpu.tgz.new" -C "$state" . && mv "$GPU_OUT/gpu.tgz.new" "$GPU_OUT/gpu.tgz"
    cp "$state/table.md" "$GPU_OUT/table.md" 2>/dev/null
}

# ---- a pack ----
pack() {
    local to=$1 at library
    [ -n "$to" ] || { echo "usage: spec/gpu.sh --pack FOLDER" >&2; exit 2; }
    mkdir -p "$to/bin/spec" "$to/lib" "$to/spec/bench" "$to/spec/golden" || exit 1
    for name in $tests $benches; do
        at=$(program "$name") || { echo "$name is not built: run spec/gpu.sh build" >&2; exit 1; }
        cp "$at" "$to/bin/spec/" && strip "$to/bin/spec/$name"
    done
    for name in distac libdistac-cuda.so; do [ -f "$build/$name" ] && cp -L "$build/$name" "$to/bin/"; done
    cp -L "$build"/libdistac*.so.[0-9] "$to/bin/" 2>/dev/null
    [ -d "$build/lua" ] && cp -rL "$build/lua" "$to/bin/"
    # The C library is the machine's, the toolkit's are too large to carry: they come from it or from its driver's folder.
    # The matrix libraries are loaded by name when a context opens (tensor/lapack.c); where they lie the linker knows.
    for name in $(grep -aoE 'lib(lapacke|openblas)[-a-z0-9_]*\.so[.0-9]*' "$to/bin/spec/bench_device" | sort -u); do
        library=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p | awk -v name="$name" '$1 == name {print $NF; exit}')
        [ -n "$library" ] && cp -L "$library" "$to/lib/$name"
    done
    for library in $(ldd "$to"/bin/spec/* "$to/bin/distac" "$to"/bin/*.so* "$to"/lib/* 2>/dev/null | awk '$3 ~ /^\// {print $3}' | sort -u |
        grep -vE '/(libc|libm|libdl|libpthread|ld-linux[^/]*|librt)\.so|/libdistac|/libcu|/libnv'); do
        cp -L "$library" "$to/lib/" 2>/dev/null
    done
    cp spec/gpu.sh spec/bare.lua spec/helper.lua spec/tiny.lua "$to/spec/"
    for name in device device_recipe tensor train text; do cp "spec/${name}_spec.lua" "$to/spec/"; done
    cp -r spec/golden/. "$to/spec/golden/"
    cp spec/bench/torch_gpu.py spec/bench/make_models.lua spec/bench/gpu_table.awk "$to/spec/bench/"
    date -u +%FT%TZ >"$to/pack.txt"
    du -sh "$to"
}

case ${1:-} in
--list)
    for part in $parts; do printf '%-24s %s\n' "$part" "$(cat "$state/$part.status" 2>/dev/null || echo 'not run')"; done
    exit 0 ;;
--pack) pack "${2:-}"; exit ;;
-*) sed -n '2,17p' "$0"; exit 2 ;;
esac

if [ -f "${GPU_RESUME:-}" ] && [ -z "$(find "$state" -name '*.status' -print -quit)" ]; then
    tar -xzf "$GPU_RESUME" -C "$state" || exit 2
    rm -f "$state/build.status" # that was another machine's
fi

passed=0 failed=0 skipped=0 late=0
done_before() { grep -q '^done' "$state/$1.status" 2>/dev/null && { [ "$1" != build ] || program bench_device >/dev/null; }; }
if [ $# -gt 0 ]; then
    chosen=$*
else # the build; what was never tried; what failed or was skipped before; the table
    chosen="build" again=""
    for part in $parts; do
        if [ "$part" = build ] || [ "$part" = table ]; then continue; fi
        if done_before "$part"; then passed=$((passed + 1)); continue; fi
        if [ -f "$state/$part.status" ]; then again+=" $part"; else chosen+=" $part"; fi
    done
    if done_before build; then chosen=${chosen#build} passed=$((passed + 1)); fi
    chosen+="$again table"
fi
for part in $chosen; do
    grep -qw -- "$part" <<<"$parts" || { echo "no such part: $part (spec/gpu.sh --list)" >&2; exit 2; }
    start=$SECONDS limit=$most
    if [ -n "${GPU_TIME:-}" ] && [ "$part" != table ] && [ $((GPU_TIME - SECONDS)) -lt $most ]; then limit=$((GPU_TIME - SECONDS - margin)); fi
    if [ $limit -lt "$margin" ]; then
        late=$((late + 1))
        continue
    fi
    run_part "$part" >"$state/$part.log" 2>&1
    code=$?
    if [ $code != 0 ] && [ $code != 77 ] && [ $limit -lt $most ] && [ $((SECONDS - start)) -ge $((limit - 1)) ]; then
        late=$((late + 1))
        rm -f "$state/$part.status"
        echo "$part: cut short after $((SECONDS - start)) s, the next call begins it again"
        continue
    fi
    case $code in
    0) passed=$((passed + 1)); echo "done in $((SECONDS - start)) s" >"$state/$part.status" ;;
    77) skipped=$((skipped + 1)); echo "skipped: $(tail -1 "$state/$part.log")" >"$state/$part.status" ;;
    *) failed=$((failed + 1)); echo "failed ($code): $(tail -1 "$state/$part.log")" >"$state/$part.status" ;;
    esac
    printf '%-24s %s\n' "$part" "$(cat "$state/$part.status")"
    hand_over
done
echo "$passed passed, $failed failed, $skipped skipped, $late left for want of time"
[ $failed = 0 ] && [ $late = 0 ]
