-- files.lua: reading and writing whole files, for the generators.
local M = {}

function M.read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read("*a")
    file:close()
    return text
end

function M.write(path, text)
    local file = assert(io.open(path, "wb"))
    assert(file:write(text))
    assert(file:close())
end

-- Written only when different, so that what depends on an unchanged file is not built again.
function M.renew(path, text)
    local old = io.open(path, "rb")
    local same = old and old:read("*a") == text
    if old then old:close() end
    if not same then M.write(path, text) end
end

return M
