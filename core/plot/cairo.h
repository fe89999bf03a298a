/* cairo.h: the functions of libcairo that charts are drawn with. The library is loaded with the first chart: with
 * the dozen libraries below it, it would take a fifth of the time in which the engine is loaded, and most hosts
 * draw nothing. */
#ifndef DISTAC_PLOT_CAIRO_H
#define DISTAC_PLOT_CAIRO_H

#include "../base/base.h"
#include <cairo.h>

#define DI_CAIRO(F)                                                                                               \
    F(arc)                                                                                                        \
    F(close_path) F(create) F(destroy) F(fill) F(font_extents) F(image_surface_create) F(line_to) F(move_to)      \
        F(paint) F(rectangle) F(restore) F(rotate) F(save) F(select_font_face) F(set_dash) F(set_font_size)       \
            F(set_line_width) F(set_source_rgb) F(set_source_rgba) F(show_text) F(status) F(status_to_string)     \
                F(stroke) F(surface_destroy) F(surface_write_to_png_stream) F(text_extents) F(translate)

typedef struct di_cairo {
#define DI_MEMBER(name) __typeof__(cairo_##name) *name;
    DI_CAIRO(DI_MEMBER)
#undef DI_MEMBER
} di_cairo;

/* Errors: EUNSUPPORTED (the library is not there). */
distac_status di_cairo_load(di_cairo *out);

#endif
