/* fuzz_pt.c: the reader of PyTorch files on hostile bytes: archives, stacked pickles, whole modules. Built with
 * libFuzzer
 *   clang -g -O1 -DDISTAC_LIBFUZZER -fsanitize=fuzzer,address,undefined -Icore -Ispec/c spec/fuzz/fuzz_pt.c ...
 * it searches on its own; built without, main damages a few files, the same way every time:
 *   fuzz_pt [ROUNDS] [SEED]
 * Pickles are damaged before they go into an archive, whose checksums are then right, and archives afterwards. */
#define NAME "fuzz_pt"
#include "fuzz.h"

#include "io/io.h"
#include "../c/pt_files.h"

/* What the reader promises about a file that it accepts. */
static void check(const distac_checkpoint *checkpoint, const uint8_t *data, size_t size) {
    for (int64_t i = 0; i < checkpoint->count; i++) {
        const di_entry *entry = checkpoint->entries[i];
        const uint8_t *bytes = entry->data;
        double values[256];
        if (i > 0 && strcmp(checkpoint->entries[i - 1]->name, entry->name) >= 0) broken("names are not sorted");
        if (strlen(entry->name) == 0 || strlen(entry->name) > DI_ST_MAX_NAME) broken("a name of a wrong length");
        if (di_type_bytes(entry->type, entry->numel) != entry->bytes) broken("a tensor has the wrong size");
        if ((entry->data == NULL) == (entry->tensor == NULL)) broken("a tensor must be in the file or in memory");
        if (entry->tensor) {
            bytes = entry->tensor->data;
            if (entry->tensor->numel != entry->numel) broken("a copy has the wrong size");
        } else if (entry->data < data || (size_t)(entry->data - data) > size ||
                   (size_t)entry->bytes > size - (size_t)(entry->data - data)) {
            broken("a tensor lies outside the file");
        }
        for (int64_t at = 0; di_entry_is_float(entry) && at < entry->numel; at += 256)
            di_to_f64(entry->type->dtype, bytes + at * (entry->type->bits / 8), values,
                      entry->numel - at < 256 ? entry->numel - at : 256);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    distac_context *context = the_context();
    distac_checkpoint *checkpoint;
    if (distac_checkpoint_create(context, &checkpoint) != DISTAC_OK) broken(distac_last_error());
    distac_status status = di_pt_parse(checkpoint, data, size);
    if (status == DISTAC_OK) {
        check(checkpoint, data, size);
        accepted++;
    } else {
        if (status != DISTAC_ENOMEM && status != DISTAC_EFORMAT) broken(distac_last_error());
        refused++;
    }
    distac_checkpoint_release(checkpoint);
    nothing_held(context);
    return 0;
}

#ifndef DISTAC_LIBFUZZER

/* SHORT_BINBYTES: a storage of four floats as torch.save writes it in stacked pickles. */
#define STORAGE_BYTES \
    "x:43af80028a0a6cfc9c46f9206aa850192e80024de9032e80027d28581000000070726f746f636f6c5f76657273696f6e8a08" \
    "e903000000000000580d0000006c6974746c655f656e6469616e88752e800228580700000073746f7261676563746f726368" \
    "0a466c6f617453746f726167650a58010000003758030000006370758a0804000000000000004e74512e80025d5801000000" \
    "37612e04000000000000000000803f000000400000404000008040"

/* Longer than a name may be. */
#define FIFTY     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define LONG_WORD "'" FIFTY FIFTY FIFTY FIFTY FIFTY FIFTY FIFTY FIFTY FIFTY FIFTY "aaaaa"

/* Those that begin with protocol 4 are files by pickle.dump. */
static const char *const seeds[] = {
    "proto } 'w W s .",
    "proto } ( 'a W 'b W:0:2,2:1,2 'c W:1:3:1 'd W:0:5,2:0,1 u .",
    "proto c:collections:OrderedDict ) R put:0 ( 'w c:torch._utils:_rebuild_parameter W true N T3 R put:1 'v "
    "get:1 u "
    "} '_metadata get:0 s .",
    "proto } ( 'epoch #3 'state_dict } 'w W s 'optimizer } #0 } s u .",
    "proto c:__main__:Net ) new } ( '_parameters } ( 'p W 'none N u '_buffers } ( 'b W 'skip W u "
    "'_non_persistent_buffers_set c:__builtin__:set ] 'skip a T1 R '_modules } ( 'gone N 'k c:m:D ) new put:5 } ( "
    "'_parameters } 'q W:0:2,2:1,2 s '_buffers } '_modules } u b 'l get:5 u u b .",
    "x:8004 x:95a000000000000000 } x:94 ( 'w 'torch._utils '_rebuild_tensor_v2 x:93 put:3 ( 'torch.storage "
    "'_load_from_bytes x:93 " STORAGE_BYTES " T1 R #0 #4 T1 #1 T1 false N t R x:94 'v get:3 u .",
    "x:8004 'm 'Net x:93 ) new } ( '_parameters } 'w c:torch._utils:_rebuild_tensor_v2 ( "
    "c:torch.storage:_load_from_bytes " STORAGE_BYTES " T1 R #0 #2 #2 T2 #2 #1 T2 false N t R s '_buffers } "
    "'_non_persistent_buffers_set x:8f ( 'a 'b x:90 '_modules } u b .",
    ("proto } ( 'model } 'w W s 'x c:builtins:getattr c:m:A 'B T2 R "
     "'y c:functools:partial c:m:f T1 R } 'a N s b u ."),
};
enum { SEEDS = sizeof seeds / sizeof seeds[0] };

static const char *const words[] = {"proto",
                                    "}",
                                    "]",
                                    ")",
                                    "(",
                                    "t",
                                    "T1",
                                    "T2",
                                    "T3",
                                    "u",
                                    "s",
                                    "a",
                                    "e",
                                    "R",
                                    "b",
                                    "new",
                                    "Q",
                                    "N",
                                    "true",
                                    ".",
                                    "'w",
                                    "#0",
                                    "#-1",
                                    "#4",
                                    "#9223372036854775807",
                                    "W",
                                    "W:0:4:1",
                                    "W:3:2:1",
                                    "W:1000:4:1",
                                    "W:0:2,2:9000,1",
                                    "W:0:1099511627776:0",
                                    "put:0",
                                    "get:0",
                                    "put:5",
                                    "get:5",
                                    "S:FloatStorage:0:4",
                                    "S:HalfStorage:0:8",
                                    "S:FloatStorage:1:4",
                                    "c:os:system",
                                    "c:m:C",
                                    "c:builtins:set",
                                    "c:torch._utils:_rebuild_tensor_v2",
                                    "c:torch._utils:_rebuild_parameter",
                                    "c:collections:OrderedDict",
                                    "'_modules",
                                    "'_parameters",
                                    "'_buffers",
                                    "'state_dict",
                                    "x:ff",
                                    "x:8aff",
                                    "x:58ffffffff",
                                    "'storage",
                                    "c:torch:FloatStorage",
                                    LONG_WORD,
                                    "x:8f",
                                    "x:90",
                                    "x:93",
                                    "x:94",
                                    "x:4300",
                                    "x:8effffffffffffffff",
                                    "x:95ffffffffffffffff",
                                    "'_load_from_bytes",
                                    "c:torch.storage:_load_from_bytes"};

/* A seed with some of its words exchanged, removed, doubled. */
static void damage_words(char *text, size_t room) {
    char copy[8192];
    size_t length = strlen(text), at = below(length), end;
    while (at > 0 && text[at - 1] != ' ') at--;
    end = at + strcspn(text + at, " ");
    const char *word = words[below(sizeof words / sizeof words[0])];
    switch (below(3)) {
    case 0:
        snprintf(copy, sizeof copy, "%.*s%s%s", (int)at, text, word, text + end);
        break;
    case 1:
        snprintf(copy, sizeof copy, "%.*s%s", (int)at, text, text + end + (text[end] == ' '));
        break;
    default:
        snprintf(copy, sizeof copy, "%.*s%s %s", (int)at, text, word, text + at);
        break;
    }
    if (copy[0] && strlen(copy) < room) memcpy(text, copy, strlen(copy) + 1);
}

static void damage_bytes(buffer *b) {
    if (b->size == 0) return;
    size_t at = below(b->size), count = 1 + below(8);
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff, 0xfe, '.', '(', 'R', 'h', 'q', 0x81};
    switch (below(5)) {
    case 0:
        b->data[at] = (uint8_t)below(256);
        break;
    case 1:
        b->data[at] = (uint8_t)(b->data[at] ^ 1u << below(8));
        break;
    case 2:
        for (size_t i = at; i < b->size && i < at + count; i++) b->data[i] = edges[below(sizeof edges)];
        break;
    case 3:
        if (at + count <= b->size) {
            memmove(b->data + at, b->data + at + count, b->size - at - count);
            b->size -= count;
        }
        break;
    default:
        if (below(8) == 0) b->size = at;
        break;
    }
}

int main(int argc, char **argv) {
    long rounds = begin(argc, argv, 60000);
    for (long round = 0; round < rounds; round++) {
        char text[2048];
        buffer pickle = {0}, b = {0};
        snprintf(text, sizeof text, "%s", seeds[below(SEEDS)]);
        bool whole = round % 16 == 0;
        size_t where = below(4); /* words, pickle's bytes, archive's bytes, all */
        for (size_t n = 1 + below(3); !whole && (where == 0 || where == 3) && n > 0; n--)
            damage_words(text, sizeof text);
        assemble(&pickle, text);
        for (size_t n = 1 + below(3); !whole && (where == 1 || where == 3) && n > 0; n--) damage_bytes(&pickle);
        if (strncmp(text, "x:8004", 6) == 0) {
            put(&b, pickle.data, pickle.size);
        } else if (below(6) == 0) {
            put_legacy(&b, "", "", 4);
            b.size -= 24;
            put(&b, pickle.data, pickle.size);
            assemble(&b, below(8) ? "proto ] '0 a ." : "proto ] .");
            put_number(&b, below(8) ? 4 : below(9), 8);
            put(&b, "\0\0\200\77\0\0\0\100\0\0\100\100\0\0\200\100", 16);
        } else {
            put_archive(&b, pickle.data, pickle.size);
        }
        for (size_t n = 1 + below(3); !whole && where >= 2 && n > 0; n--) damage_bytes(&b);
        try_copy(b.data, b.size);
        drop(&pickle);
        drop(&b);
    }
    return finish(rounds);
}

#endif
