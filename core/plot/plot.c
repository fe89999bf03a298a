/* plot.c: charts as objects: collecting lines, bars, categories and levels. draw.c puts them on paper. */
#include "plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Room for one more element in a growing array, given as the address of its pointer; the new one is zeroed. */
static distac_status grow(void *array, int32_t count, size_t element)
{
    void *list;
    memcpy(&list, array, sizeof list);
    list = di_grow(list, ((size_t)count + 1) * element);
    if (!list) return DISTAC_ENOMEM;
    memcpy(array, &list, sizeof list);
    memset((char *)list + (size_t)count * element, 0, element);
    return DISTAC_OK;
}

static distac_status copy_text(const char *text, char **out)
{
    *out = di_strdup(text ? text : "");
    return *out ? DISTAC_OK : DISTAC_ENOMEM;
}

static distac_status copy_values(int32_t count, const double *values, double **out)
{
    *out = NULL;
    if (!values) return DISTAC_OK;
    *out = di_new(sizeof(double) * (size_t)(count > 0 ? count : 1));
    if (!*out) return DISTAC_ENOMEM;
    if (count > 0) memcpy(*out, values, sizeof(double) * (size_t)count);
    return DISTAC_OK;
}

static void free_series(di_series *series, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        free(series[i].label);
        free(series[i].x);
        free(series[i].y);
        free(series[i].band);
    }
    free(series);
}

distac_status distac_plot_create(distac_context *context, const distac_plot_desc *desc, distac_plot **out)
{
    DI_REQUIRE(context && desc && out, "context, desc and out must not be NULL");
    int32_t width = desc->width ? desc->width : 900, height = desc->height ? desc->height : 560;
    if (width < 200 || width > 8000 || height < 150 || height > 8000)
        return di_fail(DISTAC_EINVAL, "the size %d x %d is outside 200..8000 x 150..8000", (int)width,
                       (int)height);
    distac_plot *plot = di_new(sizeof *plot);
    if (!plot) return DISTAC_ENOMEM;
    atomic_init(&plot->refs, 1);
    plot->context = context;
    di_context_retain(context);
    plot->width = width;
    plot->height = height;
    plot->log_y = desc->log_y != 0;
    plot->y_min = plot->y_max = NAN;
    if (copy_text(desc->title, &plot->title) || copy_text(desc->x_label, &plot->x_label) ||
        copy_text(desc->y_label, &plot->y_label)) {
        distac_plot_release(plot);
        return DISTAC_ENOMEM;
    }
    *out = plot;
    return DISTAC_OK;
}

void distac_plot_release(distac_plot *plot)
{
    if (!plot || atomic_fetch_sub(&plot->refs, 1) != 1) return;
    free(plot->title);
    free(plot->x_label);
    free(plot->y_label);
    free_series(plot->lines, plot->line_count);
    free_series(plot->bars, plot->bar_count);
    for (int32_t i = 0; i < plot->category_count; i++) free(plot->categories[i]);
    free(plot->categories);
    for (int32_t i = 0; i < plot->level_count; i++) free(plot->levels[i].label);
    free(plot->levels);
    distac_context_release(plot->context);
    free(plot);
}

distac_status distac_plot_line(distac_plot *plot, const char *label, int32_t n_x, const double *x, int32_t n_y,
                               const double *y, int32_t n_band, const double *band, int32_t style)
{
    DI_REQUIRE(plot && (x || n_x == 0) && (y || n_y == 0), "plot, x and y must not be NULL");
    if (n_x != n_y || (n_band != 0 && n_band != n_x))
        return di_fail(DISTAC_ESHAPE, "x has %d values, y %d, band %d; they must be equally many", (int)n_x,
                       (int)n_y, (int)n_band);
    if (style < DI_STYLE_LINE || style > DI_STYLE_BEFORE)
        return di_fail(DISTAC_EINVAL, "style %d is none of 0 (line), 1 (points), 2 (dashed), 3 (before)",
                       (int)style);
    DI_TRY(grow(&plot->lines, plot->line_count, sizeof *plot->lines));
    di_series *line = &plot->lines[plot->line_count++];
    line->count = n_x;
    line->style = style;
    DI_TRY(copy_text(label, &line->label));
    DI_TRY(copy_values(n_x, x, &line->x));
    DI_TRY(copy_values(n_y, y, &line->y));
    return copy_values(n_band, n_band ? band : NULL, &line->band);
}

distac_status distac_plot_bars(distac_plot *plot, const char *label, int32_t n_values, const double *values)
{
    DI_REQUIRE(plot && (values || n_values == 0), "plot and values must not be NULL");
    DI_TRY(grow(&plot->bars, plot->bar_count, sizeof *plot->bars));
    di_series *bars = &plot->bars[plot->bar_count++];
    bars->count = n_values;
    DI_TRY(copy_text(label, &bars->label));
    return copy_values(n_values, values, &bars->y);
}

distac_status distac_plot_category(distac_plot *plot, const char *name)
{
    DI_REQUIRE(plot && name, "plot and name must not be NULL");
    DI_TRY(grow(&plot->categories, plot->category_count, sizeof *plot->categories));
    return copy_text(name, &plot->categories[plot->category_count++]);
}

distac_status distac_plot_level(distac_plot *plot, const char *label, double y)
{
    DI_REQUIRE(plot, "plot must not be NULL");
    if (!isfinite(y)) return di_fail(DISTAC_EINVAL, "the level %g is not finite", y);
    DI_TRY(grow(&plot->levels, plot->level_count, sizeof *plot->levels));
    di_level *level = &plot->levels[plot->level_count++];
    level->y = y;
    return copy_text(label, &level->label);
}

distac_status distac_plot_range(distac_plot *plot, double y_min, double y_max)
{
    DI_REQUIRE(plot, "plot must not be NULL");
    if (y_max <= y_min) return di_fail(DISTAC_EINVAL, "the range %g to %g is empty", y_min, y_max);
    if (plot->log_y && y_min <= 0.0) return di_fail(DISTAC_EINVAL, "a logarithmic axis cannot start at %g", y_min);
    plot->y_min = y_min;
    plot->y_max = y_max;
    return DISTAC_OK;
}

distac_status distac_plot_save(distac_plot *plot, const char *path)
{
    DI_REQUIRE(plot && path, "plot and path must not be NULL");
    return di_plot_draw(plot, path);
}
