-- distac.repl.picture: draws an image in the terminal: by kitty's or sixel's graphics where the terminal says that
-- it has them, else by half blocks in colours, two pixels a letter. Where there is no terminal it is only saved.

local picture = {}

local floor, min, max, char = math.floor, math.min, math.max, string.char

local function engine() return require "distac" end

-- ---- what the terminal can ------------------------------------------------------------------------------

local MODES = { kitty = true, sixel = true, blocks = true, none = true }
local known

-- "kitty", "sixel", "blocks" or "none". DISTAC_GRAPHICS says it for terminals that are judged wrongly. A terminal
-- is asked only where one is, and those that hide others (tmux, screen) are believed for what they say of
-- themselves.
function picture.mode()
    local forced = os.getenv "DISTAC_GRAPHICS"
    if forced and MODES[forced] then return forced end
    if known then return known end
    local ok, terminal = pcall(require, "distac.terminal")
    local term = os.getenv "TERM" or ""
    if not ok or not select(2, terminal.is_terminal()) or term == "dumb" or term == "" then
        known = "none"
        return known
    end
    known = "blocks"
    local inside = os.getenv "TMUX" or term:find "^screen" or term:find "^tmux"
    if term == "linux" or term:find "^vt%d" then return known end
    local question = (inside and "" or "\27_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\27\\") .. "\27[c"
    local answer = terminal.is_terminal() and terminal.ask(question, 300) or ""
    if answer:find("\27_Gi=31;OK", 1, true) then
        known = "kitty"
    else
        local abilities = answer:match "\27%[%?([%d;]*)c"
        if abilities and (";" .. abilities .. ";"):find(";4;", 1, true) then known = "sixel" end
    end
    return known
end

local function window()
    local ok, terminal = pcall(require, "distac.terminal")
    if not ok then return 80, 24, 0, 0 end
    return terminal.size()
end

-- ---- half blocks ----------------------------------------------------------------------------------------

local function cube(r, g, b) -- the nearest of xterm's 256 colours
    local function step(v) return floor(v / 255 * 5 + 0.5) end
    if max(r, g, b) - min(r, g, b) < 12 then
        local grey = floor((r + g + b) / 3 / 255 * 25 + 0.5)
        if grey > 0 and grey < 25 then return 231 + grey end
    end
    return 16 + 36 * step(r) + 6 * step(g) + step(b)
end

-- Lines of text that show an RGB image of an even height, pixel by pixel. ink > 1 darkens what is not white: the
-- thin lines of a plot are pale when it is made small.
function picture.blocks(image, true_colour, ink)
    local function inked(v) return max(0, floor(255 - (255 - v) * (ink or 1) + 0.5)) end
    local width, height, bytes = image:width(), image:height(), image:rgb():bytes()
    local lines = {}
    local function colour(x, y, what)
        local r, g, b = bytes:byte((y * width + x) * 3 + 1, (y * width + x) * 3 + 3)
        r, g, b = inked(r), inked(g), inked(b)
        if true_colour then return string.format("\27[%d;2;%d;%d;%dm", what, r, g, b) end
        return string.format("\27[%d;5;%dm", what, cube(r, g, b))
    end
    for y = 0, height - 2, 2 do
        local out, before_top, before_bottom = {}, nil, nil
        for x = 0, width - 1 do
            local top, bottom = colour(x, y, 38), colour(x, y + 1, 48)
            if top ~= before_top then out[#out + 1] = top end
            if bottom ~= before_bottom then out[#out + 1] = bottom end
            before_top, before_bottom = top, bottom
            out[#out + 1] = "\226\150\128" -- upper half block
        end
        lines[#lines + 1] = table.concat(out) .. "\27[0m"
    end
    return table.concat(lines, "\n") .. "\n"
end

-- ---- kitty ----------------------------------------------------------------------------------------------

local LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

function picture.base64(bytes)
    local out = {}
    for i = 1, #bytes, 3 do
        local a, b, c = bytes:byte(i, i + 2)
        local n = a * 65536 + (b or 0) * 256 + (c or 0)
        local function letter(shift)
            local k = floor(n / shift) % 64
            return LETTERS:sub(k + 1, k + 1)
        end
        out[#out + 1] = letter(262144) .. letter(4096) .. (b and letter(64) or "=") .. (c and letter(1) or "=")
    end
    return table.concat(out)
end

-- A PNG file's bytes as kitty's escape codes, `columns` wide.
function picture.kitty(png, columns)
    local text, out = picture.base64(png), {}
    for at = 1, #text, 4096 do
        local more = at + 4096 <= #text and 1 or 0
        local control = at == 1 and string.format("a=T,f=100,q=2,c=%d,m=%d", columns, more) or "m=" .. more
        out[#out + 1] = "\27_G" .. control .. ";" .. text:sub(at, at + 4095) .. "\27\\"
    end
    return table.concat(out) .. "\n"
end

-- ---- sixel ----------------------------------------------------------------------------------------------

-- An RGB image as sixels in 6 x 6 x 6 colours and 24 greys.
function picture.sixel(image)
    local width, height, bytes = image:width(), image:height(), image:rgb():bytes()
    local numbers, colours, memo = {}, {}, {}
    local out = { string.format('\27Pq"1;1;%d;%d', width, height) }
    local pixels = {}
    for i = 0, width * height - 1 do
        local r, g, b = bytes:byte(3 * i + 1, 3 * i + 3)
        local key = floor(r / 4) * 4096 + floor(g / 4) * 64 + floor(b / 4)
        local c = memo[key]
        if not c then
            c = cube(r, g, b)
            memo[key] = c
            if not numbers[c] then
                numbers[c] = #colours
                colours[#colours + 1] = c
                local cr, cg, cb
                if c >= 232 then
                    cr = (c - 231) * 4
                    cg, cb = cr, cr
                else
                    local k = c - 16
                    cr, cg, cb = floor(k / 36) * 20, floor(k / 6) % 6 * 20, k % 6 * 20
                end
                out[#out + 1] = string.format("#%d;2;%d;%d;%d", numbers[c], cr, cg, cb)
            end
        end
        pixels[i] = numbers[c]
    end
    for top = 0, height - 1, 6 do
        local used, list = {}, {}
        for y = top, min(top + 5, height - 1) do
            local bit = 2 ^ (y - top)
            for x = 0, width - 1 do
                local c = pixels[y * width + x]
                local row = used[c]
                if not row then
                    row = {}
                    used[c] = row
                    list[#list + 1] = c
                end
                row[x] = (row[x] or 0) + bit
            end
        end
        for k, c in ipairs(list) do
            local row, x = used[c], 0
            out[#out + 1] = (k > 1 and "$#" or "#") .. c
            while x < width do
                local v, run = row[x] or 0, 1
                while x + run < width and (row[x + run] or 0) == v do run = run + 1 end
                local letter = char(63 + v)
                out[#out + 1] = run > 3 and "!" .. run .. letter or letter:rep(run)
                x = x + run
            end
        end
        out[#out + 1] = "-"
    end
    out[#out + 1] = "\27\\\n"
    return table.concat(out)
end

-- ---- showing --------------------------------------------------------------------------------------------

-- The text that draws the image saved at `path` in a window of this size.
function picture.text(mode, path, columns, rows, pixels_wide, is_plot)
    local distac = engine()
    local image = distac.image.load(path, { channels = 3 })
    local w, h = image:width(), image:height()
    if mode == "kitty" then return picture.kitty(distac.fs.read(path), min(columns - 2, floor(w / 8))) end
    if mode == "sixel" then
        local most = pixels_wide > 0 and pixels_wide or columns * 8
        if w > most then image = image:resize(most, max(1, floor(h * most / w))) end
        return picture.sixel(image)
    end
    local wide = max(2, min(columns, w))
    local high = max(2, 2 * floor(wide * h / w / 2 + 0.5))
    local most = max(4, 2 * (rows - 3))
    if high > most then
        wide, high = max(2, floor(wide * most / high)), most
    end
    local colour = os.getenv "COLORTERM" or ""
    return picture.blocks(image:resize(wide, high), colour == "truecolor" or colour == "24bit",
        is_plot and 2.5 or 1)
end

-- Where a picture goes that was given no name.
local function default_path()
    local folder = require("distac.repl.session").folder()
    if folder and pcall(engine().fs.make, folder) then return folder .. "/plot.png" end
    return os.tmpname() .. ".png"
end

-- Draws a plot or an image, and saves it as PNG: under `path`, or where the printed line says.
function picture.show(what, path)
    local to = path or default_path()
    what:save(to)
    local mode = picture.mode()
    if mode ~= "none" then
        local columns, rows, wide = window()
        io.stdout:write(picture.text(mode, to, columns, rows, wide,
            require("distac.raw").type(what) == "plot"))
    end
    print("saved as " .. to)
end

return picture
