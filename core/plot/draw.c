/* draw.c: lays a chart out and draws it with cairo (cairo.h): grid, bars, bands, lines, levels, legend, texts. */
#include "cairo.h"
#include "plot.h"

#include <math.h>
#include <stdio.h>

/* A palette that colour-blind readers can tell apart (Okabe and Ito 2008). */
static const double palette[8][3] = {
    {0.00, 0.45, 0.70}, {0.90, 0.62, 0.00}, {0.00, 0.62, 0.45}, {0.80, 0.40, 0.00},
    {0.80, 0.47, 0.65}, {0.34, 0.71, 0.91}, {0.45, 0.45, 0.45}, {0.75, 0.70, 0.10},
};

struct pen {
    const di_cairo *cairo;
    cairo_t *cr;
};

typedef struct page {
    const distac_plot *plot;
    struct pen pen;
    double left, top, width, height; /* of the plotting area, pixels */
    di_axis x, y;
} page;

static void color(const struct pen *pen, int32_t index, double alpha)
{
    const double *rgb = palette[index % 8];
    pen->cairo->set_source_rgba(pen->cr, rgb[0], rgb[1], rgb[2], alpha);
}

/* Number of lines before line `index` with a colour of their own: dashed ones are grey, those of the time before a
 * change have the next one's. */
static int32_t line_color(const distac_plot *plot, int32_t index)
{
    int32_t colored = 0;
    for (int32_t i = 0; i < index; i++)
        colored += plot->lines[i].style != DI_STYLE_DASHED && plot->lines[i].style != DI_STYLE_BEFORE;
    return colored;
}

static void grey(const struct pen *pen, double level)
{
    pen->cairo->set_source_rgb(pen->cr, level, level, level);
}

/* Text with its anchor at (x, y): align 0 left, 0.5 centre, 1 right; y is the middle of the line. */
static void text_at(const struct pen *pen, const char *text, double x, double y, double align)
{
    cairo_text_extents_t box;
    cairo_font_extents_t font;
    pen->cairo->text_extents(pen->cr, text, &box);
    pen->cairo->font_extents(pen->cr, &font);
    pen->cairo->move_to(pen->cr, x - align * box.x_advance, y + font.ascent / 2.0 - font.descent / 2.0);
    pen->cairo->show_text(pen->cr, text);
}

static double text_width(const struct pen *pen, const char *text)
{
    cairo_text_extents_t box;
    pen->cairo->text_extents(pen->cr, text, &box);
    return box.x_advance;
}

static bool drawable(const page *p, double y)
{
    return isfinite(y) && (!p->y.log || y > 0.0);
}

static double place_x(const page *p, double x)
{
    return p->left + di_axis_place(&p->x, x) * p->width;
}

static double place_y(const page *p, double y)
{
    double share = di_axis_place(&p->y, y);
    share = share < -0.02 ? -0.02 : share > 1.02 ? 1.02 : share;
    return p->top + (1.0 - share) * p->height;
}

static void widen(double value, bool log, double *low, double *high)
{
    if (!isfinite(value) || (log && value <= 0.0)) return;
    if (!(*low <= value)) *low = value;
    if (!(*high >= value)) *high = value;
}

static void scale_axes(page *p)
{
    const distac_plot *plot = p->plot;
    double x_low = NAN, x_high = NAN, y_low = NAN, y_high = NAN;
    bool whole = true; /* steps, blocks: no ticks between them */
    for (int32_t i = 0; i < plot->line_count; i++)
        for (int32_t k = 0; k < plot->lines[i].count; k++) {
            const di_series *line = &plot->lines[i];
            double band = line->band ? line->band[k] : 0.0;
            widen(line->x[k], false, &x_low, &x_high);
            if (line->x[k] != floor(line->x[k])) whole = false; /* a NaN too, which is drawn nowhere */
            widen(line->y[k] - band, plot->log_y, &y_low, &y_high);
            widen(line->y[k] + band, plot->log_y, &y_low, &y_high);
        }
    for (int32_t i = 0; i < plot->bar_count; i++)
        for (int32_t k = 0; k < plot->bars[i].count; k++) {
            double value = plot->bars[i].y[k];
            widen(plot->log_y ? value : value * 1.04, plot->log_y, &y_low, &y_high); /* room for its number */
        }
    if (plot->bar_count && !plot->log_y) widen(0.0, false, &y_low, &y_high); /* bars stand on zero */
    for (int32_t i = 0; i < plot->level_count; i++) widen(plot->levels[i].y, plot->log_y, &y_low, &y_high);
    if (!isfinite(y_low)) y_low = plot->log_y ? 0.1 : 0.0, y_high = 1.0;
    bool fixed_low = isfinite(plot->y_min), fixed_high = isfinite(plot->y_max);
    if (fixed_low) y_low = plot->y_min;
    if (fixed_high) y_high = plot->y_max;
    di_axis_make(&p->y, y_low, y_high, plot->log_y, fixed_low, fixed_high, 8, 0.0);
    if (plot->category_count) {
        x_low = 0.0;
        x_high = plot->category_count;
    } else if (!isfinite(x_low)) {
        x_low = 0.0;
        x_high = 1.0;
    }
    di_axis_make(&p->x, x_low, x_high, false, true, true, 9, whole ? 1.0 : 0.0);
}

static void draw_grid(page *p)
{
    const struct pen *pen = &p->pen;
    pen->cairo->set_line_width(pen->cr, 1.0);
    pen->cairo->set_font_size(pen->cr, 13.0);
    for (int32_t i = 0; i < p->y.tick_count; i++) {
        double y = floor(place_y(p, p->y.ticks[i])) + 0.5;
        grey(pen, 0.88);
        pen->cairo->move_to(pen->cr, p->left, y);
        pen->cairo->line_to(pen->cr, p->left + p->width, y);
        pen->cairo->stroke(pen->cr);
        grey(pen, 0.25);
        text_at(pen, p->y.labels[i], p->left - 8.0, y, 1.0);
    }
    for (int32_t i = 0; i < p->plot->category_count; i++)
        text_at(pen, p->plot->categories[i], place_x(p, i + 0.5), p->top + p->height + 16.0, 0.5);
    for (int32_t i = 0; !p->plot->category_count && i < p->x.tick_count; i++) {
        double x = floor(place_x(p, p->x.ticks[i])) + 0.5;
        grey(pen, 0.93);
        pen->cairo->move_to(pen->cr, x, p->top);
        pen->cairo->line_to(pen->cr, x, p->top + p->height);
        pen->cairo->stroke(pen->cr);
        grey(pen, 0.25);
        text_at(pen, p->x.labels[i], x, p->top + p->height + 16.0, 0.5);
    }
}

static void draw_bars(page *p)
{
    const distac_plot *plot = p->plot;
    const struct pen *pen = &p->pen;
    double slot = p->width / (plot->category_count > 0 ? plot->category_count : 1);
    double width = slot * 0.8 / (plot->bar_count > 0 ? plot->bar_count : 1);
    double floor_y = p->y.log ? p->top + p->height : place_y(p, p->y.low > 0.0 ? p->y.low : 0.0);
    bool numbers = width >= 30.0;
    for (int32_t i = 0; i < plot->bar_count; i++)
        for (int32_t k = 0; k < plot->bars[i].count && k < plot->category_count; k++) {
            double value = plot->bars[i].y[k];
            if (!drawable(p, value)) continue;
            double x = p->left + slot * k + slot * 0.1 + width * i, y = place_y(p, value);
            color(pen, i, 0.95);
            pen->cairo->rectangle(pen->cr, x + 0.5, fmin(y, floor_y), width - 1.0, fabs(floor_y - y));
            pen->cairo->fill(pen->cr);
            if (!numbers) continue;
            char label[32];
            snprintf(label, sizeof label, fabs(value) >= 10.0 ? "%.1f" : "%.2f", value);
            di_plain_point(label);
            pen->cairo->set_font_size(pen->cr, 11.0);
            bool inside = value >= 0.0 && y - 15.0 < p->top && y + 18.0 < floor_y; /* not across the frame */
            grey(pen, inside ? 0.05 : 0.25);
            text_at(pen, label, x + width / 2.0, y + (value < 0.0 || inside ? 9.0 : -8.0), 0.5);
        }
}

static void draw_band(page *p, const di_series *line, int32_t index)
{
    const struct pen *pen = &p->pen;
    bool open = false;
    for (int32_t k = 0; k < line->count; k++)
        if (drawable(p, line->y[k] + line->band[k])) {
            double y = place_y(p, line->y[k] + line->band[k]);
            (open ? pen->cairo->line_to : pen->cairo->move_to)(pen->cr, place_x(p, line->x[k]), y);
            open = true;
        }
    for (int32_t k = line->count - 1; k >= 0 && open; k--)
        if (drawable(p, line->y[k] + line->band[k])) {
            double low = line->y[k] - line->band[k];
            pen->cairo->line_to(pen->cr, place_x(p, line->x[k]),
                                drawable(p, low) ? place_y(p, low) : p->top + p->height);
        }
    if (!open) return;
    pen->cairo->close_path(pen->cr);
    color(pen, index, 0.18);
    pen->cairo->fill(pen->cr);
}

/* Strokes the path, in the line itself or its key. */
static void stroke_line(const struct pen *pen, const di_series *line, int32_t index)
{
    static const double dashes[2] = {6.0, 4.0};
    bool dashed = line->style == DI_STYLE_DASHED || line->style == DI_STYLE_BEFORE;
    if (line->style == DI_STYLE_DASHED)
        grey(pen, 0.45);
    else
        color(pen, index, 1.0);
    if (dashed) pen->cairo->set_dash(pen->cr, dashes, 2, 0.0);
    pen->cairo->set_line_width(pen->cr, dashed ? 1.6 : 2.2);
    pen->cairo->stroke(pen->cr);
    pen->cairo->set_dash(pen->cr, NULL, 0, 0.0);
}

static void draw_line(page *p, const di_series *line, int32_t index)
{
    const struct pen *pen = &p->pen;
    bool open = false;
    for (int32_t k = 0; k < line->count; k++) {
        if (!drawable(p, line->y[k])) {
            open = false; /* a gap, not a bridge */
            continue;
        }
        (open ? pen->cairo->line_to : pen->cairo->move_to)(pen->cr, place_x(p, line->x[k]),
                                                           place_y(p, line->y[k]));
        open = true;
    }
    stroke_line(pen, line, index);
    for (int32_t k = 0; line->style == DI_STYLE_POINTS && k < line->count; k++) {
        if (!drawable(p, line->y[k])) continue;
        pen->cairo->arc(pen->cr, place_x(p, line->x[k]), place_y(p, line->y[k]), 3.4, 0.0, 6.283185307179586);
        color(pen, index, 1.0);
        pen->cairo->fill(pen->cr);
    }
}

/* Labels beside their lines, from the bottom up; one that would lie over the one before it moves up. */
static void label_levels(page *p)
{
    const double apart = 13.0;
    double place = INFINITY;
    grey(&p->pen, 0.3);
    p->pen.cairo->set_font_size(p->pen.cr, 12.0);
    for (int32_t last = -1, next;; last = next) {
        next = -1;
        for (int32_t i = 0; i < p->plot->level_count; i++) {
            double y = p->plot->levels[i].y, before = last < 0 ? 0.0 : p->plot->levels[last].y;
            if (!drawable(p, y) || (last >= 0 && (y < before || (y == before && i <= last)))) continue;
            if (next < 0 || y < p->plot->levels[next].y) next = i;
        }
        if (next < 0) return;
        place = fmin(floor(place_y(p, p->plot->levels[next].y)) + 0.5, place - apart);
        text_at(&p->pen, p->plot->levels[next].label, p->left + p->width + 6.0, place, 0.0);
    }
}

static void draw_levels(page *p)
{
    static const double dashes[2] = {5.0, 4.0};
    const struct pen *pen = &p->pen;
    for (int32_t i = 0; i < p->plot->level_count; i++) {
        const di_level *level = &p->plot->levels[i];
        if (!drawable(p, level->y)) continue;
        double y = floor(place_y(p, level->y)) + 0.5;
        grey(pen, 0.3);
        pen->cairo->set_line_width(pen->cr, 1.2);
        pen->cairo->set_dash(pen->cr, dashes, 2, 0.0);
        pen->cairo->move_to(pen->cr, p->left, y);
        pen->cairo->line_to(pen->cr, p->left + p->width, y);
        pen->cairo->stroke(pen->cr);
        pen->cairo->set_dash(pen->cr, NULL, 0, 0.0);
    }
    label_levels(p);
}

/* One row of colour keys under the title; returns the pixels it took. */
static double draw_legend(page *p, double y)
{
    const struct pen *pen = &p->pen;
    double x = p->left, rows = 0.0;
    int32_t all = p->plot->bar_count + p->plot->line_count;
    pen->cairo->set_font_size(pen->cr, 13.0);
    for (int32_t i = 0; i < all; i++) {
        bool bar = i < p->plot->bar_count;
        const di_series *series = bar ? &p->plot->bars[i] : &p->plot->lines[i - p->plot->bar_count];
        if (!series->label[0]) continue;
        double wide = 26.0 + text_width(pen, series->label) + 18.0;
        if (x > p->left && x + wide > p->left + p->width) {
            x = p->left;
            rows += 1.0;
        }
        if (bar) {
            color(pen, i, 1.0);
            pen->cairo->rectangle(pen->cr, x, y + rows * 20.0 - 6.0, 18.0, 12.0);
            pen->cairo->fill(pen->cr);
        } else {
            pen->cairo->move_to(pen->cr, x, y + rows * 20.0);
            pen->cairo->line_to(pen->cr, x + 18.0, y + rows * 20.0);
            stroke_line(pen, series, line_color(p->plot, i - p->plot->bar_count));
        }
        grey(pen, 0.15);
        text_at(pen, series->label, x + 24.0, y + rows * 20.0, 0.0);
        x += wide;
    }
    return rows * 20.0 + 22.0;
}

static void draw_frame_texts(page *p)
{
    const struct pen *pen = &p->pen;
    grey(pen, 0.35);
    pen->cairo->set_line_width(pen->cr, 1.0);
    pen->cairo->rectangle(pen->cr, floor(p->left) + 0.5, floor(p->top) + 0.5, floor(p->width), floor(p->height));
    pen->cairo->stroke(pen->cr);
    grey(pen, 0.1);
    pen->cairo->set_font_size(pen->cr, 14.0);
    text_at(pen, p->plot->x_label, p->left + p->width / 2.0, p->plot->height - 14.0, 0.5);
    pen->cairo->save(pen->cr);
    pen->cairo->translate(pen->cr, 18.0, p->top + p->height / 2.0);
    pen->cairo->rotate(pen->cr, -1.5707963267948966);
    text_at(pen, p->plot->y_label, 0.0, 0.0, 0.5);
    pen->cairo->restore(pen->cr);
}

static void lay_out(page *p)
{
    const distac_plot *plot = p->plot;
    const struct pen *pen = &p->pen;
    double labels = 0.0, levels = 0.0;
    pen->cairo->set_font_size(pen->cr, 13.0);
    for (int32_t i = 0; i < p->y.tick_count; i++) labels = fmax(labels, text_width(pen, p->y.labels[i]));
    for (int32_t i = 0; i < plot->level_count; i++) levels = fmax(levels, text_width(pen, plot->levels[i].label));
    p->left = 18.0 + (plot->y_label[0] ? 18.0 : 0.0) + labels + 8.0;
    p->width = plot->width - p->left - fmax(24.0, levels + 14.0);
    double y = 14.0;
    if (plot->title[0]) {
        grey(pen, 0.05);
        pen->cairo->set_font_size(pen->cr, 18.0);
        text_at(pen, plot->title, p->left, y + 8.0, 0.0);
        y += 32.0;
    }
    y += draw_legend(p, y + 4.0);
    p->top = y;
    p->height = plot->height - y - 34.0 - (plot->x_label[0] ? 22.0 : 0.0);
}

typedef struct sink {
    di_writer *writer;
    distac_status status;
} sink;

static cairo_status_t put(void *closure, const unsigned char *bytes, unsigned int count)
{
    sink *s = closure;
    s->status = di_writer_put(s->writer, bytes, count);
    return s->status == DISTAC_OK ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

distac_status di_plot_draw(const distac_plot *plot, const char *path)
{
    di_cairo loaded;
    DI_TRY(di_cairo_load(&loaded));
    const di_cairo *cairo = &loaded;
    cairo_surface_t *surface = cairo->image_surface_create(CAIRO_FORMAT_RGB24, plot->width, plot->height);
    page p = {.plot = plot, .pen = {cairo, cairo->create(surface)}};
    const struct pen *pen = &p.pen;
    pen->cairo->set_source_rgb(pen->cr, 1.0, 1.0, 1.0);
    pen->cairo->paint(pen->cr);
    pen->cairo->select_font_face(pen->cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    scale_axes(&p);
    lay_out(&p);
    draw_grid(&p);
    draw_bars(&p);
    for (int32_t i = 0; i < plot->line_count; i++)
        if (plot->lines[i].band) draw_band(&p, &plot->lines[i], line_color(plot, i));
    for (int32_t i = 0; i < plot->line_count; i++) draw_line(&p, &plot->lines[i], line_color(plot, i));
    draw_levels(&p);
    draw_frame_texts(&p);
    cairo_status_t drawn = pen->cairo->status(pen->cr);
    pen->cairo->destroy(pen->cr);

    distac_status status = DISTAC_OK;
    if (drawn != CAIRO_STATUS_SUCCESS) {
        status = di_fail(drawn == CAIRO_STATUS_NO_MEMORY ? DISTAC_ENOMEM : DISTAC_EINVAL, "%s: %s", path,
                         cairo->status_to_string(drawn));
    } else {
        sink s = {0};
        status = di_writer_open(path, &s.writer);
        if (status == DISTAC_OK) {
            drawn = cairo->surface_write_to_png_stream(surface, put, &s);
            if (drawn == CAIRO_STATUS_SUCCESS) {
                status = di_writer_commit(s.writer);
            } else {
                status = s.status ? s.status
                                  : di_fail(DISTAC_EIO, "%s: %s", path, cairo->status_to_string(drawn));
                di_writer_abort(s.writer);
            }
        }
    }
    cairo->surface_destroy(surface);
    return status;
}
