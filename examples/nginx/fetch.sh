#!/usr/bin/env bash
# Unpacks nginx, its Lua module, the LuaJIT that it wants and ab(1) from the distribution's packages into a folder,
# and leaves the system as it is. Libraries that the system has are not fetched again. Usage: fetch.sh FOLDER
set -euo pipefail
folder=$1
mkdir -p "$folder"
packages="nginx libnginx-mod-http-ndk libnginx-mod-http-lua lua-resty-core lua-resty-lrucache libluajit2-5.1-2
          apache2-utils"
for library in libpcre3 libpcre2-8-0 libssl3 libapr1 libaprutil1; do
    dpkg-query -W -f='${Status}' $library 2>/dev/null | grep -q "ok installed" || packages="$packages $library"
done

debs=$(mktemp -d)
trap 'rm -rf "$debs"' EXIT
# shellcheck disable=SC2086
download() { (cd "$debs" && apt-get download -qq -o APT::Sandbox::User=root $packages); }
# Package lists may be missing or old; only root may fetch new ones.
download || { [ "$(id -u)" = 0 ] && apt-get update -qq && download; }
for deb in "$debs"/*.deb; do dpkg-deb -x "$deb" "$folder"; done
