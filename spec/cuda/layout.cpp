/* layout.cpp: the emulated bodies of warp_matrix.h beside the layouts of fragments as the PTX ISA defines them for
 * mma.m16n8k16 and ldmatrix.m8n8.x4, element by element and written down here anew: what the emulated device computes
 * is what the instructions would. */
#include "emulator.h"
#include "warp_matrix.h"

namespace emulated {

/* Element i of a lane's fragment lies there: the sections "Matrix fragments for mma.m16n8k16" with elements of 16 bits. */
static int row_a(int lane, int i) { return lane / 4 + (i < 2 || (i >= 4 && i < 6) ? 0 : 8); }
static int column_a(int lane, int i) { return lane % 4 * 2 + (i & 1) + (i < 4 ? 0 : 8); }
static int row_b(int lane, int i) { return lane % 4 * 2 + (i & 1) + (i < 2 ? 0 : 8); }
static int column_b(int lane, int) { return lane / 4; }
static int row_c(int lane, int i) { return lane / 4 + (i < 2 ? 0 : 8); }
static int column_c(int lane, int i) { return lane % 4 * 2 + (i & 1); }

static float half_of(unsigned word, int i) { return __uint_as_float(i & 1 ? word & 0xffff0000u : word << 16); }
/* Small whole numbers, all different where they are few: exact in bfloat16 up to 256. */
static float number(int i) { return (float)(i * 37 % 251 - 125); }

static long long wrong;
static void compare(float got, float wanted) {
    if (!(got == wanted)) wrong++;
}

static void one_warp() {
    static __nv_bfloat16 *tile;
    tile = (__nv_bfloat16 *)shared(&tile, DI_TILE * DI_TILE * sizeof *tile);
    int lane = (int)emulated::lane();
    for (int at = lane; at < DI_TILE * DI_TILE; at += 32) {
        int row = at / DI_TILE, column = at % DI_TILE;
        tile[di_tile_at(row, column / 8) + column % 8] = __float2bfloat16(number(at));
    }
    __syncthreads();

    /* the product: A = [16,16] of numbers from 0, B = [16,8] from 256, C = [16,8] from 384 */
    di_part_a a;
    di_part_b b;
    di_part_c c;
    for (int i = 0; i < 8; i += 2)
        a.x[i / 2] = di_two(number(row_a(lane, i) * 16 + column_a(lane, i)),
                            number(row_a(lane, i + 1) * 16 + column_a(lane, i + 1)));
    for (int i = 0; i < 4; i += 2)
        b.x[i / 2] = di_two(number(256 + row_b(lane, i) * 8 + column_b(lane, i)),
                            number(256 + row_b(lane, i + 1) * 8 + column_b(lane, i + 1)));
    for (int i = 0; i < 4; i++) c.x[i] = number(384 + row_c(lane, i) * 8 + column_c(lane, i));
    di_multiply(c, a, b);
    for (int i = 0; i < 4; i++) {
        int row = row_c(lane, i), column = column_c(lane, i);
        float sum = number(384 + row * 8 + column);
        for (int k = 0; k < 16; k++) sum += number(row * 16 + k) * number(256 + k * 8 + column);
        compare(c.x[i], sum);
    }

    /* two C side by side, rounded, are the A of the same numbers */
    di_part_c left, right;
    for (int i = 0; i < 4; i++) {
        left.x[i] = number(row_c(lane, i) * 16 + column_c(lane, i));
        right.x[i] = number(row_c(lane, i) * 16 + 8 + column_c(lane, i));
    }
    di_part_a joined = di_as_factor(left, right);
    for (int i = 0; i < 8; i++)
        compare(half_of(joined.x[i / 2], i), number(row_a(lane, i) * 16 + column_a(lane, i)));

    /* ldmatrix: matrix m's rows are at the addresses of lanes 8 m … 8 m + 7; a lane gets two neighbours of row lane / 4,
     * of the transpose with .trans. Here matrix m is the tile's columns from 8 m of rows 0 … 7. */
    for (int turned = 0; turned < 2; turned++) {
        unsigned x[4];
        di_load_four(x, tile + di_tile_at(lane % 8, lane / 8), turned);
        for (int m = 0; m < 4; m++)
            for (int e = 0; e < 2; e++) {
                int first = lane / 4, second = lane % 4 * 2 + e;
                int row = turned ? second : first, column = 8 * m + (turned ? first : second);
                compare(half_of(x[m], e), number(row * DI_TILE + column));
            }
    }

    /* factors out of a tile */
    for (int row = 0; row < DI_TILE; row += 16)
        for (int k = 0; k < DI_TILE / 16; k++) {
            di_part_a from = di_tile_a(tile, row, k);
            for (int i = 0; i < 8; i++)
                compare(half_of(from.x[i / 2], i),
                        number((row + row_a(lane, i)) * DI_TILE + 16 * k + column_a(lane, i)));
            for (int turned = 0; turned < 2; turned++) {
                di_part_b pair[2];
                di_tile_b(pair, tile, row, k, turned);
                for (int n = 0; n < 2; n++)
                    for (int i = 0; i < 4; i++) {
                        int inner = row_b(lane, i), outer = 8 * n + column_b(lane, i);
                        int at_row = turned ? inner : outer, at_column = turned ? outer : inner;
                        compare(half_of(pair[n].x[i / 2], i), number((row + at_row) * DI_TILE + 16 * k + at_column));
                    }
            }
        }
}

/* How many elements lie elsewhere. */
long long layout_errors() {
    wrong = 0;
    run_grid("layout", dim3(1), dim3(32), 0, one_warp);
    return wrong;
}

} // namespace emulated
