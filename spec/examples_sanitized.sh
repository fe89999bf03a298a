#!/usr/bin/env bash
# Builds the embedding examples with a sanitizer against a tree that has it, and runs them, cancelling included.
# Usage: examples_sanitized.sh SANITIZERS TREE BUILD (the program that makes the data)
set -euo pipefail
cd "$(dirname "$0")/.."
sanitizers=$1 tree=$(cd "$2" && pwd) build=$(cd "$3" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
problem() { echo "examples_sanitized: $*" >&2; exit 1; }

env -u LD_PRELOAD "$build/distac" examples/embed_data.lua "$work/data"
flags=("-fsanitize=$sanitizers" -g -O1 -fno-omit-frame-pointer -Icore -Ibindings/script "-L$tree" "-Wl,-rpath,$tree")
"${CC:-gcc}" -std=c11 "${flags[@]}" examples/embed_core.c -ldistac -o "$work/core"
"${CXX:-g++}" -std=c++17 "${flags[@]}" examples/embed.cpp -ldistac -o "$work/cpp"
"${CC:-gcc}" -std=c11 "${flags[@]}" examples/embed_recipe.c -ldistac-script -ldistac -pthread -o "$work/recipe"

d=$work/data
for picture in "$d"/latin/*class01.png; do
    "$work/core" "$d/base.safetensors" "$d/latin.safetensors" "$d/hebrew.safetensors" "$work/merged.safetensors" \
        "$d/latin-head.safetensors" "$picture"
done
"$work/cpp" "$d/base.safetensors" "$d/latin.safetensors" "$d/latin-head.safetensors" "$d/latin" "$work/c.safetensors" 1 3

cat >"$work/job.lua" <<LUA
local distac = require "distac"
return distac.recipe {
    name = "job", suite = distac.folder_suite { root = "$work/tasks", model = "$d/base.safetensors", scale = 20 },
    finetune = { steps = 4, batch = 4, lr = 1e-3 },
    condition = { kappa = 1, temperature = { teacher = 1, student = 10 }, beta = 0.5, steps = 2, batch = 4, lr = 1e-3 },
    merge = { "task_arithmetic" }, lambda = distac.grid(0, 1, 0.5),
}
LUA
n=0
for picture in "$d"/latin/*.png; do
    n=$((n + 1))
    for split in train validation test; do
        mkdir -p "$work/tasks/one/$split/$((n % 2))" "$work/tasks/two/$split/$((n % 2))"
        cp "$picture" "$work/tasks/one/$split/$((n % 2))/"
        cp "$picture" "$work/tasks/two/$split/$((n % 2))/"
    done
done
status=0
"$work/recipe" "$work/job.lua" "$work/out" 0.5 || status=$?
[ $status = 0 ] || [ $status = 130 ] || problem "embed_recipe, cancelled after half a second: status $status"
"$work/recipe" "$work/job.lua" "$work/out" || problem "embed_recipe: status $?"
