#!/usr/bin/env bash
# Installs what distac is built, run and tested with: the one package list, used by examples/quickstart.sh and
# spec/run.sh. Does nothing when everything is there; asks for root only to install.
set -eu

packages="
  gcc g++ libc6-dev cmake ninja-build pkg-config
  lua5.4 liblua5.4-dev luajit libluajit-5.1-dev
  liblapacke-dev libopenblas-dev
  libpng-dev libjpeg-dev zlib1g-dev libunistring-dev libxxhash-dev libcairo2-dev libmd-dev libedit-dev
  fonts-dejavu-core dataset-fashion-mnist
  lua-busted libcmocka-dev clang libclang-rt-14-dev
  python3 curl tmux
"

missing=""
for package in $packages; do
    case $package in
        # a versioned compiler runtime: any version will do
        libclang-rt-14-dev) compgen -G "/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*" >/dev/null && continue ;;
    esac
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "install.sh: these packages are needed, and this machine has no apt-get:$missing" >&2
    exit 1
fi
echo "installing:$missing" >&2
as_root=""
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "install.sh: run as root, or install sudo: these packages are missing:$missing" >&2
        exit 1
    fi
    as_root=sudo
fi
export DEBIAN_FRONTEND=noninteractive
available=""
$as_root apt-get update -qq >&2
for package in $missing; do
    if apt-cache show "$package" >/dev/null 2>&1; then
        available="$available $package"
    elif [ "$package" = libclang-rt-14-dev ] || [ "$package" = dataset-fashion-mnist ]; then
        echo "install.sh: $package is not offered here; going on without it" >&2
    else
        echo "install.sh: this system's package sources do not offer $package" >&2
        exit 1
    fi
done
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $available >&2
