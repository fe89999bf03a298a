-- handler.lua: answers one request: a picture in the body, its class as JSON.
local json = require("distac").json

local function answer(status, value)
    ngx.status = status
    ngx.header.content_type = "application/json"
    ngx.say(json.encode(value))
end

ngx.req.read_body()
local path = ngx.req.get_body_file()
if not path then return answer(400, { error = "the body must be a PNG, JPEG or PNM picture" }) end

local ok, result = pcall(classify, path)
if ok then return answer(200, result) end

-- Errors of the engine have a code: a broken picture is the client's fault, anything else ours. What lies where on
-- the server is nobody's business.
local broken = type(result) == "table" and (result.code == "EFORMAT" or result.code == "EUNSUPPORTED")
if broken then
    local _, last = tostring(result):find(path, 1, true)
    return answer(400, { error = "the picture" .. (last and tostring(result):sub(last + 1) or " is broken") })
end
ngx.log(ngx.ERR, tostring(result))
answer(500, { error = "the server failed" })
