# embed_checks.sh: runs the built embedding examples and looks at what they say. Sourced by the specs beside it, with
#   bin      where embed_core, embed_cpp, embed_recipe, embed_lua5.4, embed_luajit are (the last two may be missing)
#   distac   the program          work   an empty folder          library   libdistac.so, for Python
#   lua54, lua51   environment settings with which the two Lua hosts find the module
# shellcheck shell=bash disable=SC2154

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../examples" && pwd)

problem() { echo "embed: $*" >&2; exit 1; }

# refused STATUS WORDS COMMAND...: the command must end with the status and say the words
refused() {
    local status=$1 words=$2 got=0
    shift 2
    "$@" >"$work/refused.out" 2>&1 || got=$?
    [ "$got" = "$status" ] || { cat "$work/refused.out" >&2; problem "status $got instead of $status: $*"; }
    grep -q -- "$words" "$work/refused.out" || { cat "$work/refused.out" >&2; problem "did not say '$words': $*"; }
}

make_data() {
    data=$work/data
    [ -d "$data" ] && return # made before, with other binaries
    "$distac" "$examples/embed_data.lua" "$data"
    pictures=("$data"/latin/*.png)
    [ ${#pictures[@]} = 32 ] || problem "there are ${#pictures[@]} pictures"
}

# The C host's answers are the command line's, and its merged model is that of distac merge.
check_core() {
    local picture
    for picture in "${pictures[@]}"; do
        "$bin/embed_core" "$data/base.safetensors" "$data/latin.safetensors" "$data/hebrew.safetensors" \
            "$work/merged.safetensors" "$data/latin-head.safetensors" "$picture"
    done >"$work/core.out"
    "$distac" "$examples/classify.lua" "$work/merged.safetensors" "$data/latin-head.safetensors" "${pictures[@]}" >"$work/classify.out"
    diff "$work/core.out" "$work/classify.out" || problem "embed_core and the command line differ"
    local right
    right=$(sed -n 's/.*class0*\([0-9]\{1,\}\)\.png: class \([0-9]*\),.*/\1 \2/p' "$work/core.out" | awk '$1 == $2' | grep -c .)
    [ "$right" -ge 16 ] || problem "the merged model knows $right of 32 letters"

    "$distac" merge --quiet --force --base "$data/base.safetensors" --method task_arithmetic --lambda 0.5 \
        -o "$work/merged-cli.safetensors" "$data/latin.safetensors" "$data/hebrew.safetensors" >/dev/null
    local file
    for file in merged merged-cli; do "$distac" inspect "$work/$file.safetensors" | grep fingerprint; done | uniq | awk 'END { exit NR != 1 }' ||
        problem "embed_core and distac merge made different models"
    refused 1 "cannot open 'missing.png'" "$bin/embed_core" "$data/base.safetensors" "$data/latin.safetensors" \
        "$data/hebrew.safetensors" "$work/merged.safetensors" "$data/latin-head.safetensors" missing.png
    refused 2 usage "$bin/embed_core"
}

# Conditioning makes the model surer.
check_cpp() {
    "$bin/embed_cpp" "$data/base.safetensors" "$data/latin.safetensors" "$data/latin-head.safetensors" "$data/latin" \
        "$work/conditioned.safetensors" 1 20 | tee "$work/cpp.out"
    awk '/entropy/ { e[++n] = $NF } END { exit !(n == 2 && e[2] > 0 && e[2] < e[1]) }' "$work/cpp.out" ||
        problem "embed_cpp: the entropy has not fallen"
    "$distac" "$examples/classify.lua" "$work/conditioned.safetensors" \
        "$data/latin-head.safetensors" "${pictures[0]}" | grep -q "class 1," || problem "embed_cpp has spoilt the model"
    refused 1 "EIO.*nowhere" "$bin/embed_cpp" "$data/base.safetensors" "$data/latin.safetensors" \
        "$data/latin-head.safetensors" "$work/nowhere" "$work/x.safetensors"
}

# The same nearest pictures as in Lua.
check_python() {
    command -v python3 >/dev/null || { echo "embed.py was not run: python3 is not installed"; return 0; }
    DISTAC_LIBRARY=$library python3 "$examples/embed.py" "$data/base.safetensors" "${pictures[@]}" >"$work/python.out"
    cat >"$work/nearest.lua" <<'LUA'
local distac = require "distac"
local model = distac.vit(distac.load(arg[1]))
local unit = {}
for i = 2, #arg do
    local f = model:features(distac.image.load(arg[i]):tensor():reshape(1, 1, 28, 28))
    unit[i] = f / f:norm():item()
end
for i = 2, #arg do
    local most, which = -2
    for j = 2, #arg do
        local cosine = j ~= i and (unit[i] * unit[j]):sum():item() or -2
        if cosine > most then most, which = cosine, j end
    end
    print(string.format("%s  %s  %.3f", arg[i], arg[which], most))
end
LUA
    "$distac" "$work/nearest.lua" "$data/base.safetensors" "${pictures[@]}" >"$work/nearest.out"
    awk '{ printf "%s  %s  %.3f\n", $1, $2, $3 }' "$work/python.out" >"$work/python3.out"
    paste "$work/python3.out" "$work/nearest.out" |
        awk '$1 != $4 || $2 != $5 || !($3 - $6 <= 0.0011 && $6 - $3 <= 0.0011) { print; bad = 1 } END { exit bad || NR != 32 }' ||
        problem "embed.py and Lua see different neighbours"
    refused 1 "EIO: .*nowhere" env DISTAC_LIBRARY="$library" python3 "$examples/embed.py" "$work/nowhere" a b
}

# Cancelled, continued, and then the result of distac run.
check_recipe() {
    local status=0
    cat >"$work/job.lua" <<'LUA'
local distac = require "distac"
return distac.recipe {
    name = "job", suite = "mini8", finetune = { steps = 12 }, merge = { "task_arithmetic" }, lambda = 0.5,
}
LUA
    if ! "$distac" plan --quiet "$work/job.lua" >"$work/plan.out" 2>&1; then
        cat "$work/plan.out"
        grep -q dataset-fashion-mnist "$work/plan.out" || problem "the recipe is refused"
        echo "embed_recipe was not run: the data of mini8 is not complete here"
        return 0
    fi
    rm -rf "$work/job" "$work/recipe.err" # of an earlier check; what it said must not be taken for this one's
    "$bin/embed_recipe" "$work/job.lua" "$work/job" >"$work/recipe.out" 2>"$work/recipe.err" &
    local host=$! tries=0
    until grep -qs 'fine-tuning' "$work/recipe.err" || [ $tries = 600 ]; do sleep 0.1; tries=$((tries + 1)); done
    kill -INT $host
    wait $host || status=$?
    [ $status = 130 ] || { cat "$work/recipe.out" "$work/recipe.err"; problem "embed_recipe: status $status, 130 is wanted"; }
    grep -q '^cancelled' "$work/recipe.out" || problem "embed_recipe was not cancelled"
    [ -d "$work/job/stages" ] || problem "embed_recipe has saved nothing"
    refused 130 "the same command continues" "$bin/embed_recipe" "$work/job.lua" "$work/job" 0.01
    "$bin/embed_recipe" "$work/job.lua" "$work/job" >"$work/recipe.out" 2>"$work/recipe.err"
    grep -q '% |=*' "$work/recipe.err" || problem "embed_recipe has shown no progress"
    "$distac" run --json "$work/job.lua" --out "$work/job" >"$work/job.json" 2>/dev/null
    cat >"$work/same.lua" <<'LUA'
local json = require("distac").json
local function text(path) local f = assert(io.open(path)); local s = f:read("*a"); f:close(); return s end
local host, ours = json.decode(text(arg[1]):match("{.*}")), json.decode(text(arg[2])).merges[1]
assert(host.method == ours.method and host.lambda == ours.lambda and host.tasks == 8)
assert(host.mean_accuracy == ours.mean_accuracy and ours.mean_accuracy > 0.3)
LUA
    "$distac" "$work/same.lua" "$work/recipe.out" "$work/job.json" || problem "embed_recipe's result is not that of distac run"
    refused 1 "EINVAL: .*nowhere.lua" "$bin/embed_recipe" "$work/nowhere.lua" "$work/x"
}

# A host's own Lua gives the same answers on both runtimes.
check_lua_state() {
    local vm setting ran=0
    for vm in lua5.4 luajit; do
        [ -x "$bin/embed_$vm" ] || continue
        ran=$((ran + 1))
        if [ $vm = luajit ]; then setting=("${lua51[@]}"); else setting=("${lua54[@]}"); fi
        env "${setting[@]}" "$bin/embed_$vm" "$work/merged.safetensors" "$data/latin-head.safetensors" "${pictures[@]}" >"$work/$vm.out"
        diff "$work/$vm.out" "$work/classify.out" || problem "embed_$vm and the command line differ"
        refused 1 "cannot open '$work/nowhere'" env "${setting[@]}" "$bin/embed_$vm" "$work/nowhere" x y
    done
    [ $ran -gt 0 ] || problem "neither Lua host was built"
}

check_all() {
    make_data
    check_core
    check_cpp
    check_python
    check_recipe
    check_lua_state
}
