#!/usr/bin/env bash
# Runs the README's Lua and C examples as they stand. Usage: readme.sh BUILD
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(cd "$1" && pwd) root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# block LANGUAGE: the first code block of that language
block() { awk -v fence='```'"$1" '$0 == fence { on = 1; next } on && $0 == "```" { exit } on' README.md; }

block lua >"$work/example.lua"
block c >"$work/example.c"
[ -s "$work/example.lua" ] && [ -s "$work/example.c" ] || { echo "README.md has lost an example"; exit 1; }
cd "$work"

accuracy=$("$build/distac" example.lua)
echo "Lua example: $accuracy"
awk -v a="$accuracy" 'BEGIN { exit !(a > 0.5 && a <= 1) }'
[ -s merged.safetensors ]

"${CC:-cc}" -std=c11 -Wall -Wextra -Werror example.c -I"$root/core" -L"$build" -ldistac -Wl,-rpath,"$build" -o example
./example "$root/examples/mini8/backbone.safetensors" | tee c.out
grep -q '^8 feature vectors of 128 numbers' c.out
if ./example missing.safetensors 2>err.out; then echo "the C example must fail on a missing file"; exit 1; fi
grep -q 'missing.safetensors' err.out
