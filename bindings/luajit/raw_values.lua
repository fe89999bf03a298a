-- raw_values.lua: numbers, strings, arrays and structs between LuaJIT and C, with the checks and the words of the
-- Lua 5.4 binding.
return function(h, ffi)
    local floor, type, tonumber, cast, istype = math.floor, type, tonumber, ffi.cast, ffi.istype
    local format = string.format
    local argument, wanted, describe = h.argument, h.wanted, h.describe

    function h.keep() end

    local function fits_int32(v)
        return type(v) == "number" and v >= -2147483648 and v <= 2147483647 and v == floor(v)
    end

    local function fits_int64(v)
        return type(v) == "number" and v >= -2 ^ 63 and v < 2 ^ 63 and v == floor(v)
    end

    function h.int32(value, fname, i, name)
        if not fits_int32(value) then
            if istype("int64_t", value) or istype("uint64_t", value) then
                return h.int32(tonumber(value), fname, i, name)
            end
            wanted(fname, i, name, "a whole number of 32 bits", value)
        end
        return value
    end

    function h.int64(value, fname, i, name)
        if not fits_int64(value) then
            if istype("int64_t", value) or istype("uint64_t", value) then return value end
            wanted(fname, i, name, "a whole number", value)
        end
        return value
    end

    function h.uint64(value, fname, i, name)
        if type(value) ~= "number" or not (value >= 0 and value < 2 ^ 64 and value == floor(value)) then
            if istype("uint64_t", value) or istype("int64_t", value) and value >= 0 then return value end
            wanted(fname, i, name, "a whole number from 0 on", value)
        end
        return cast("uint64_t", value)
    end

    function h.double(value, fname, i, name)
        if type(value) ~= "number" then wanted(fname, i, name, "a number", value) end
        return value
    end

    function h.string(value, fname, i, name, nullable)
        if nullable and type(value) == "nil" then return nil end
        if type(value) ~= "string" then wanted(fname, i, name, "a string", value) end
        if value:find("\0", 1, true) then argument(fname, i, name, "wanted a string without zero bytes") end
        return value
    end

    function h.text(value, fname, i, name)
        if type(value) ~= "string" then wanted(fname, i, name, "a string", value) end
        return value
    end

    -- Memory: what lies at a pointer or in an array, not a handle of ours.
    function h.pointer(value, fname, i, name, nullable)
        local t = type(value)
        if nullable and t == "nil" then return nil end
        if t == "string" then return cast("void *", cast("const char *", value)) end
        if t == "userdata" or t == "cdata" and not h.kind_of(value) then
            local ok, pointer = pcall(cast, "void *", value)
            if ok then return pointer end
        end
        wanted(fname, i, name, "memory (a cdata, a light userdata or a string)", value)
    end

    local max_values = 134217728 -- of one array: beyond it a Lua table is the wrong tool

    function h.count(value, fname, i, name)
        if type(value) ~= "number" or not (value >= 0 and value <= max_values and value == floor(value)) then
            wanted(fname, i, name, "a count from 0 to 134217728", value)
        end
        return value
    end

    function h.length(value, fname, i, name, max, nullable)
        if nullable and type(value) == "nil" then return 0 end
        if type(value) ~= "table" then wanted(fname, i, name, "a list", value) end
        local n = #value
        if n > max or n > max_values then argument(fname, i, name, "the list is too long") end
        return n
    end

    local function list_reader(ctype, check)
        local array = ffi.typeof(ctype)
        return function(value, fname, i, name, n)
            if type(value) == "nil" then return nil end
            local out = array(n)
            for k = 1, n do
                local element = rawget(value, k)
                local good = check(element)
                if good then wanted(fname, i, format("%s[%d]", name, k), good, element) end
                out[k - 1] = element
            end
            return out
        end
    end

    h.doubles = list_reader("double[?]", function(v)
        if type(v) ~= "number" then return "a number" end
    end)
    h.int32s = list_reader("int32_t[?]", function(v)
        if not fits_int32(v) then return "a whole number of 32 bits" end
    end)
    h.int64s = list_reader("int64_t[?]", function(v)
        if not fits_int64(v) then return "a whole number" end
    end)

    local array_of = setmetatable({}, { __index = function(self, kind)
        self[kind] = ffi.typeof(format("distac_%s *[?]", kind))
        return self[kind]
    end })

    function h.handles(value, fname, i, name, n, kind)
        if type(value) == "nil" then return nil end
        local out = array_of[kind](n)
        for k = 1, n do
            out[k - 1] = h.handle(rawget(value, k), kind, fname, i, format("%s[%d]", name, k), false)
        end
        return out
    end

    h.new_doubles = ffi.typeof("double[?]")
    h.new_double = ffi.typeof("double[1]")
    h.new_int32 = ffi.typeof("int32_t[1]")
    h.new_int64 = ffi.typeof("int64_t[1]")

    function h.list(values, n)
        local out = {}
        for k = 1, n do out[k] = values[k - 1] end
        return out
    end

    function h.to_string(text)
        if text == nil then return nil end
        return ffi.string(text)
    end

    -- Edit distance; names of fields are short.
    local function distance(a, b)
        local row = {}
        for j = 0, #b do row[j] = j end
        for i = 1, #a do
            local diagonal = row[0]
            row[0] = i
            for j = 1, #b do
                local best = diagonal + (a:byte(i) ~= b:byte(j) and 1 or 0)
                best = math.min(best, row[j] + 1, row[j - 1] + 1)
                diagonal = row[j]
                row[j] = best
            end
        end
        return row[#b]
    end

    local function unknown_key(key, struct, fname, i, name)
        local nearest = struct.fields[1][1]
        if type(key) == "string" then
            for k = 2, #struct.fields do
                local candidate = struct.fields[k][1]
                if distance(key, candidate) < distance(key, nearest) then nearest = candidate end
            end
        end
        argument(fname, i, name, format('unknown key %s, did you mean "%s"?', describe(key), nearest))
    end

    function h.read_struct(value, struct, fname, i, name, nullable)
        if nullable and type(value) == "nil" then return nil end
        if type(value) ~= "table" then wanted(fname, i, name, "a table", value) end
        local out = struct.ctype()
        for key, element in next, value do
            local kind
            for k = 1, #struct.fields do
                if struct.fields[k][1] == key then kind = struct.fields[k][2] end
            end
            if not kind then unknown_key(key, struct, fname, i, name) end
            out[key] = h[kind](element, fname, i, name .. "." .. key)
        end
        return out
    end

    function h.struct_table(value, struct)
        local out = {}
        for k = 1, #struct.fields do
            local name, kind = struct.fields[k][1], struct.fields[k][2]
            if kind == "string" then
                out[name] = h.to_string(value[name])
            else
                out[name] = tonumber(value[name])
            end
        end
        return out
    end
end
