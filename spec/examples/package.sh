#!/usr/bin/env bash
# Makes the Debian packages, looks at what they say and hold, unpacks them together and uses what is there. (Installing
# them needs root and changes the system.) Usage: package.sh BUILD
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
problem() { echo "package: $*" >&2; exit 1; }
for tool in cpack dpkg-deb dpkg-shlibdeps gzip; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done

# One after the other, and lightly packed: this is about what is in them.
(cd "$build" && cpack -G DEB -B "$work/made" -D CPACK_DEBIAN_COMPRESSION_TYPE=gzip) >"$work/cpack.log" 2>&1 ||
    { tail -n 30 "$work/cpack.log"; problem "cpack failed"; }
version=$("$build/distac" -e 'print(require("distac").version)')
mkdir "$work/root"
packages="libdistac0 libdistac-script0 lua-distac distac libdistac-dev distac-data"
if [ -f "$build/libdistac-cuda.so" ]; then packages="$packages distac-cuda"; fi
for package in $packages; do
    deb=$(echo "$work/made/${package}_$version-1"_*.deb)
    [ -f "$deb" ] || { ls "$work/made"; problem "there is no package $package of version $version"; }
    dpkg-deb -f "$deb" Depends >"$work/depends"
    case $package in
        libdistac0) grep -q 'liblapacke.*libopenblas.*libc6' "$work/depends" && ! grep -q 'lua\|distac' "$work/depends" ;;
        libdistac-script0 | distac) grep -q "libdistac0 (= $version-1), lua-distac (= $version-1).*libc6" "$work/depends" ;;
        lua-distac) grep -q "libdistac0 (= $version-1), distac-data (= $version-1)" "$work/depends" ;;
        distac-data) ! grep -q . "$work/depends" && [ "$(dpkg-deb -f "$deb" Architecture)" = all ] ;;
        *) grep -q "libdistac0 (= $version-1)" "$work/depends" ;;
    esac || { cat "$work/depends"; problem "$package depends on the wrong packages"; }
    dpkg-deb -x "$deb" "$work/root"
    for file in copyright changelog.Debian.gz; do
        [ -s "$work/root/usr/share/doc/$package/$file" ] || problem "$package has no $file"
    done
done

usr=$work/root/usr
[ "$(find "$usr" -name libdistac-cuda.so | wc -l)" = "$([ ! -f "$build/libdistac-cuda.so" ]; echo $?)" ] ||
    problem "the CUDA module is not where it was built, or was not left out"
for file in man/man1/distac.1.gz bash-completion/completions/distac zsh/site-functions/_distac \
    fish/vendor_completions.d/distac.fish distac/types/distac.d.lua distac/recipes/low_confidence.lua; do
    [ -s "$usr/share/$file" ] || problem "no package has $file"
done
"$usr/bin/distac" version | grep -q "^distac $version" || problem "the packaged program does not run"
"$usr/bin/distac" -e "local d = require 'distac'; assert(d.paths.lua:find('$usr', 1, true) and d.paths.mini8:find('$usr', 1, true))
    assert(d.vit(d.load(d.paths.mini8 .. '/backbone.safetensors')):config().width == 128)"
library=$(find "$usr" -name 'libdistac.so.*.*')
bytes=$(stat -c %s "$library")
echo "stripped libdistac: $bytes bytes"
[ "$bytes" -lt $((3 << 20)) ] || problem "the stripped library has $bytes bytes, 3 MiB are allowed"
nm "$library" 2>&1 | grep -q 'no symbols' || problem "the packaged library is not stripped"

# What Debian's own checker says. A folder that was not configured for /usr has no folder of an architecture.
if command -v lintian >/dev/null; then
    lintian --allow-root --fail-on error,warning --suppress-tags pkg-config-unavailable-for-cross-compilation \
        "$work"/made/*.deb >"$work/lintian" 2>&1 || { cat "$work/lintian"; problem "lintian complains"; }
else
    echo "lintian is not installed: not asked"
fi
