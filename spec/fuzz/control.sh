#!/usr/bin/env bash
# The fuzz targets must find what they are there for: takes one check out of each reader, builds it into its target
# with the address sanitizer, and expects the target to fail. usage: control.sh FOLDER-BUILT-WITH-THE-SANITIZER
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
libraries="-lunistring -lmd $(pkg-config --libs libpng libjpeg zlib cairo) -lpthread -lm"
count=0

# planted TARGET FILE OLD NEW: as many at once as there are processors
planted() {
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
    count=$((count + 1))
    { seen "$count" "$@" || touch "$work/bad"; } &
}

seen() {
    local mine=$work/$1 target=$2 file=$3 old=$4 new=$5
    mkdir "$mine"
    exchanged "$file" "$old" "$new" >"$mine/changed.c" || { echo "$target: $file no longer holds: $old"; return 1; }
    # shellcheck disable=SC2046,SC2086
    if ! gcc -std=gnu11 -g -O1 -fsanitize=address,undefined -Icore -I"$(dirname "$file")" \
        $(pkg-config --cflags libpng libjpeg cairo) -o "$mine/fuzz" spec/fuzz/"$target".c "$mine/changed.c" \
        "$build/libdistac.a" $libraries; then
        echo "$target: the changed reader was not built"
        return 1
    fi
    timeout 120 "$mine/fuzz" >"$mine/log" 2>&1
    case $? in
        0 | 124)
            echo "$target: the planted mistake in $file was not seen"
            return 1
            ;;
        *) echo "$target: seen: $(grep -m1 -E 'ERROR|runtime error|^fuzz_' "$mine/log")" ;;
    esac
}

# The text of FILE with its one OLD exchanged; fails when it is not there exactly once.
exchanged() {
    OLD=$2 NEW=$3 awk 'BEGIN { old = ENVIRON["OLD"]; new = ENVIRON["NEW"] }
        { at = index($0, old)
          if (at) { $0 = substr($0, 1, at - 1) new substr($0, at + length(old)); seen++ }
          print }
        END { exit seen != 1 }' "$1"
}

planted fuzz_safetensors core/io/st_read.c 'if (at != data_bytes)' 'if (at < 0)'
planted fuzz_tokenizer core/text/bpe.c 'if (!f || (uint32_t)f->rank != rank)' 'if (!f)'
planted fuzz_tokenizer core/text/vocab_read.c 'if (id < 0 || id >= (int64_t)count)' 'if (id < 0)'
planted fuzz_index core/io/index.c "name[i] == '/' ||" "name[i] == '|' ||"
planted fuzz_png core/data/png.c 'if (count > c->count - c->offset)' 'if (count > c->count)'
planted fuzz_jpeg core/data/jpeg.c 'if ((size_t)count > info->src->bytes_in_buffer)' 'if (count > 1 << 20)'
planted fuzz_pnm core/data/pnm.c 'if (least > t->count - t->at)' 'if (least > t->count)'
planted fuzz_idx core/data/idx.c 'if (label < 0 || label >= DI_CLASSES)' 'if (label >= DI_CLASSES)'
planted fuzz_pt core/io/pt_tensor.c 'last >= v->storage->count' 'last < 0'
planted fuzz_pt core/io/pickle_plain.c 'if (module.a > DI_PICKLE_MAX_NAME || name.a > DI_PICKLE_MAX_NAME)' 'if (0)'
planted fuzz_npy core/data/npy.c 'if (h->rank == DI_MAX_RANK)' 'if (h->rank == 99)'
planted fuzz_mat core/data/mat_array.c 'if (bytes > end - at - 8)' 'if (bytes > end)'
wait
[ ! -e "$work/bad" ]
