-- Tensor methods made of the others, under the names that people expect; tensor.lua takes them in.
local raw = require "distac.raw"
local check = require "distac.check"
local errors = require "distac.error"
local format = require "distac.format"

return function(M)
    local methods = M.methods

    -- All elements in one dimension; a view where they lie in one run.
    function methods.flatten(t)
        return methods.reshape(t, { raw.tensor_numel(t) })
    end

    -- Without the dimensions of size 1, or without dim if its size is 1.
    function methods.squeeze(t, dim)
        local only = dim ~= nil and M.dimension(t, "Tensor:squeeze", "dim", dim) + 1 or nil
        local shape = {}
        for i, n in ipairs(methods.shape(t)) do
            if n ~= 1 or only and i ~= only then
                shape[#shape + 1] = n
            end
        end
        return methods.reshape(t, shape)
    end

    -- A dimension of size 1 before dimension dim (from 1; rank + 1 and -1: at the end).
    function methods.unsqueeze(t, dim)
        local shape = methods.shape(t)
        check.integer("Tensor:unsqueeze", "dim", dim)
        local at = dim < 0 and dim + #shape + 2 or dim
        if at < 1 or at > #shape + 1 then
            errors.raise("EINVAL", "Tensor:unsqueeze: dim: wanted a place from 1 to %.0f, got %s for a %s",
                #shape + 1, format.number(dim), format.head(t))
        end
        table.insert(shape, at, 1)
        return methods.reshape(t, shape)
    end

    -- The dimensions in another order, a view: t:permute(3, 1, 2) or t:permute{3, 1, 2}.
    function methods.permute(t, first, ...)
        local fname = "Tensor:permute"
        local order, rank, now = type(first) == "table" and first or { first, ... }, raw.tensor_rank(t), {}
        if #order ~= rank then
            errors.raise("ESHAPE", "%s: wanted %.0f dimensions, got %.0f for a %s", fname, rank, #order,
                format.head(t))
        end
        for i = 1, rank do
            now[i] = i - 1
        end
        for i = 1, rank do
            local wanted, at = M.dimension(t, fname, string.format("dimension %.0f", i), order[i]), nil
            for k = i, rank do
                at = now[k] == wanted and k or at
            end
            if not at then
                errors.raise("EINVAL", "%s: dimension %.0f: %.0f comes twice", fname, i, order[i])
            end
            if at ~= i then
                t = raw.tensor_transpose(t, i - 1, at - 1)
                now[i], now[at] = now[at], now[i]
            end
        end
        return t
    end

    -- No element below low or above high; either may be nil.
    function methods.clamp(t, low, high)
        check.tensor("Tensor:clamp", "self", t)
        if low == nil and high == nil then
            check.wanted("Tensor:clamp", "low, high", "at least one number", nil)
        end
        if low ~= nil then
            t = methods.maximum(t, low)
        end
        return high == nil and t or methods.minimum(t, high)
    end

    -- Elements below 0 become 0.
    function methods.relu(t)
        return methods.maximum(t, 0)
    end

    -- The sum, accumulated in double, of the products of two tensors of the same shape, each of the tensors' type.
    function methods.dot(a, b)
        check.tensor("Tensor:dot", "other", b)
        if format.shape(methods.shape(a)) ~= format.shape(methods.shape(b)) then
            errors.raise("ESHAPE", "Tensor:dot: other: wanted a tensor of the shape of a %s, got a %s",
                format.head(a), format.head(b))
        end
        return methods.sum(methods.mul(a, b))
    end

    -- Sum of squares around the mean, and over how many elements.
    local function spread(t, fname, dim, keep)
        check.tensor(fname, "self", t)
        if type(dim) == "table" then
            dim, keep = dim.dim == nil and dim[1] or dim.dim, dim.keepdim
        end
        local n = dim == nil and raw.tensor_numel(t) or methods.size(t, dim)
        local centred = methods.sub(t, methods.mean(t, dim, dim ~= nil and true or nil))
        return methods.div(methods.sum(methods.mul(centred, centred), dim, keep), math.max(n - 1, 0))
    end

    -- The variance, over n - 1, of all elements or along dim.
    function methods.var(t, dim, keepdim)
        return spread(t, "Tensor:var", dim, keepdim)
    end

    -- The standard deviation, over n - 1, of all elements or along dim.
    function methods.std(t, dim, keepdim)
        return methods.sqrt(spread(t, "Tensor:std", dim, keepdim))
    end

    -- distac.stack(list, dim): the tensors side by side along a new dimension (default the first).
    function M.stack(list, dim)
        check.table("distac.stack", "list", list)
        local rows = {}
        for i, t in ipairs(list) do
            rows[i] = methods.unsqueeze(check.tensor("distac.stack", string.format("list[%.0f]", i), t), dim or 1)
        end
        return M.cat(rows, dim or 1)
    end
end
