-- Plot: charts to PNG.
local raw = require "distac.raw"
local check = require "distac.check"
local context = require "distac.context"
local errors = require "distac.error"

local M = {}
local methods, meta = {}, {}

-- plot{ title =, x_label =, y_label =, width =, height =, log_y = }: an empty chart for lines, bars and points;
-- save writes it as a PNG file, show draws it at the prompt.
function M.plot(options)
    local o = check.options("distac.plot", options, {
        title = { "string" }, x_label = { "string" }, y_label = { "string" },
        width = { "integer", min = 1, default = 0 }, height = { "integer", min = 1, default = 0 },
        log_y = { "boolean", default = false },
    })
    return raw.plot_create(context.get(), {
        title = o.title, x_label = o.x_label, y_label = o.y_label, width = o.width, height = o.height,
        log_y = o.log_y and 1 or 0,
    })
end

local STYLES = { "line", "points", "dashed", "before" }
local STYLE_CODE = { line = 0, points = 1, dashed = 2, before = 3 }

-- p:line{ label =, x =, y =, band =, style = "line" | "points" | "dashed" | "before" }: "dashed" is grey, "before"
-- dashed in the colour of the line that is added after it.
function methods.line(p, options)
    local fname = "Plot:line"
    local o = check.options(fname, options, {
        label = { "string", default = "" }, x = { "numbers", required = true }, y = { "numbers", required = true },
        band = { "numbers" }, style = { "choice", list = STYLES, default = "line" },
    })
    if #o.x ~= #o.y or (o.band and #o.band ~= #o.y) then
        errors.raise("ESHAPE", "%s: x has %.0f numbers, y %.0f%s", fname, #o.x, #o.y,
            o.band and string.format(", band %.0f", #o.band) or "")
    end
    raw.plot_line(p, o.label, o.x, o.y, o.band, STYLE_CODE[o.style])
    return p
end

-- p:bars{ label =, values = }: a group of bars, one per category.
function methods.bars(p, options)
    local o = check.options("Plot:bars", options, {
        label = { "string", default = "" }, values = { "numbers", required = true },
    })
    raw.plot_bars(p, o.label, o.values)
    return p
end

-- Adds the next category of the x axis, for bars.
function methods.category(p, name)
    raw.plot_category(p, check.string("Plot:category", "name", name))
    return p
end

-- A dashed horizontal line with a label.
function methods.level(p, label, y)
    raw.plot_level(p, check.string("Plot:level", "label", label), check.number("Plot:level", "y", y))
    return p
end

-- Fixes the y axis; nil leaves an end free.
function methods.range(p, min, max)
    local free = 0 / 0
    raw.plot_range(p, min == nil and free or check.number("Plot:range", "min", min),
        max == nil and free or check.number("Plot:range", "max", max))
    return p
end

-- Draws the chart into a PNG file.
function methods.save(p, path)
    raw.plot_save(p, check.string("Plot:save", "path", path))
end

function meta.__tostring()
    return "Plot; show(plot) draws it, plot:save(\"file.png\") saves it"
end

check.class("plot", methods, meta)

return M
