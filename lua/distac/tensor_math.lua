-- Tensor arithmetic, reductions and linear algebra; tensor.lua takes them in.
local raw = require "distac.raw"
local check = require "distac.check"
local errors = require "distac.error"
local format = require "distac.format"

return function(M)
    local methods, meta = M.methods, M.meta

    -- The core's result, or its error under the name that the caller wrote.
    local function named(fname, good, result)
        if good then
            return result
        end
        if type(result) == "table" and result.message then
            errors.raise(result.code, "%s: %s", fname, (result.message:gsub("^distac_[%w_]+: ", "")))
        end
        error(result, 0)
    end

    local function binary(fname, op, a, b)
        local ta, tb = raw.type(a) == "tensor", raw.type(b) == "tensor"
        if ta and tb then
            return named(fname, pcall(raw.tensor_binary, op, a, b))
        elseif ta and type(b) == "number" then
            return raw.tensor_binary_scalar(op, a, b, 0)
        elseif tb and type(a) == "number" then
            return raw.tensor_binary_scalar(op, b, a, 1)
        end
        if ta then
            check.wanted(fname, "right operand", "a Tensor or a number", b)
        end
        check.wanted(fname, "left operand", "a Tensor or a number", a)
    end

    local OPERATORS = { __add = { "+", raw.ADD }, __sub = { "-", raw.SUB }, __mul = { "*", raw.MUL },
        __div = { "/", raw.DIV }, __pow = { "^", raw.POW } }
    for event, entry in pairs(OPERATORS) do
        local fname, op = "Tensor " .. entry[1], entry[2]
        meta[event] = function(a, b)
            return binary(fname, op, a, b)
        end
    end

    function meta.__unm(t)
        return raw.tensor_unary(raw.NEG, t)
    end

    -- Order is for single elements: t:sum() < 1.
    local function scalar(fname, v)
        if raw.type(v) == "tensor" and raw.tensor_numel(v) == 1 then
            return raw.tensor_item(v)
        elseif type(v) == "number" then
            return v
        end
        check.wanted(fname, "operand", "a number or a tensor of one element (t:lt(u) compares elements)", v)
    end

    function meta.__lt(a, b)
        return scalar("Tensor <", a) < scalar("Tensor <", b)
    end

    function meta.__le(a, b)
        return scalar("Tensor <=", a) <= scalar("Tensor <=", b)
    end

    -- Element by element with a tensor (broadcast as NumPy does) or a number; comparisons give 1 or 0.
    -- Tensor:add(other): the sum, as t + other.
    -- Tensor:sub(other): the difference, as t - other.
    -- Tensor:mul(other): the product, as t * other.
    -- Tensor:div(other): the quotient, as t / other.
    -- Tensor:pow(other): the power, as t ^ other.
    -- Tensor:eq(other): 1 where equal, else 0.
    -- Tensor:lt(other): 1 where smaller, else 0.
    -- Tensor:le(other): 1 where not larger, else 0.
    -- Tensor:maximum(other): the larger of two.
    -- Tensor:minimum(other): the smaller of two.
    local PAIRWISE = { add = raw.ADD, sub = raw.SUB, mul = raw.MUL, div = raw.DIV, pow = raw.POW, eq = raw.EQ,
        lt = raw.LT, le = raw.LE, maximum = raw.MAX, minimum = raw.MIN }
    for name, op in pairs(PAIRWISE) do
        methods[name] = function(a, b)
            return binary("Tensor:" .. name, op, check.tensor("Tensor:" .. name, "self", a), b)
        end
    end

    -- 1 where an element is larger than b's, else 0; b is a tensor (broadcast) or a number.
    function methods.gt(a, b)
        return binary("Tensor:gt", raw.LT, b, a)
    end

    -- 1 where an element is not smaller than b's, else 0.
    function methods.ge(a, b)
        return binary("Tensor:ge", raw.LE, b, a)
    end

    -- Element by element.
    -- Tensor:neg(): the negative, as -t.
    -- Tensor:abs(): the absolute value.
    -- Tensor:sqrt(): the square root.
    -- Tensor:exp(): the exponential.
    -- Tensor:log(): the natural logarithm.
    -- Tensor:tanh(): the hyperbolic tangent.
    -- Tensor:sign(): -1, 0 or 1, the sign of every element.
    -- Tensor:sigmoid(): 1 / (1 + exp(-x)).
    -- Tensor:erf(): the error function.
    -- Tensor:gelu(): x times the normal distribution's share below x, by the error function.
    -- Tensor:quick_gelu(): x * sigmoid(1.702 x), OpenAI's approximation.
    -- Tensor:isfinite(): 1 where a number is neither NaN nor infinite, else 0.
    local UNARY = { neg = raw.NEG, abs = raw.ABS, sqrt = raw.SQRT, exp = raw.EXP, log = raw.LOG, tanh = raw.TANH,
        sign = raw.SIGN, sigmoid = raw.SIGMOID, erf = raw.ERF, gelu = raw.GELU, quick_gelu = raw.QUICK_GELU,
        isfinite = raw.ISFINITE }
    for name, op in pairs(UNARY) do
        methods[name] = function(t)
            return raw.tensor_unary(op, check.tensor("Tensor:" .. name, "self", t))
        end
    end

    -- Number of NaN and infinite elements, and the 1-based row-major index of the first (nil: none).
    function methods.nonfinite(t)
        local first, count = raw.tensor_nonfinite(t)
        return count, count > 0 and first + 1 or nil
    end

    -- sum(), sum(2), sum(2, true), sum{2}, sum{dim = 2, keepdim = true}
    local function reduction(t, fname, dim, keep)
        if type(dim) == "table" then
            local o = check.options(fname, { dim = dim.dim == nil and dim[1] or dim.dim, keepdim = dim.keepdim }, {
                dim = { "integer" }, keepdim = { "boolean" },
            })
            for key in pairs(dim) do
                if key ~= 1 and key ~= "dim" and key ~= "keepdim" then
                    errors.raise("EINVAL", "%s: unknown option %q%s", fname, tostring(key),
                        check.hint(tostring(key), { "dim", "keepdim" }))
                end
            end
            dim, keep = o.dim, o.keepdim
        end
        if keep ~= nil and type(keep) ~= "boolean" then
            check.wanted(fname, "keepdim", "true or false", keep)
        end
        return dim == nil and -1 or M.dimension(t, fname, "dim", dim), keep and 1 or 0
    end

    -- Over all elements, or along dim (from 1, -1 is the last), which stays with size 1 if keepdim.
    -- Tensor:sum(dim, keepdim): the sum, accumulated in double.
    -- Tensor:mean(dim, keepdim): the mean, accumulated in double.
    -- Tensor:max(dim, keepdim): the largest element.
    -- Tensor:min(dim, keepdim): the smallest element.
    -- Tensor:norm(dim, keepdim): the Euclidean norm, accumulated in double.
    local REDUCE = { sum = raw.SUM, mean = raw.MEAN, max = raw.RMAX, min = raw.RMIN, norm = raw.NORM }
    for name, op in pairs(REDUCE) do
        local fname = "Tensor:" .. name
        methods[name] = function(t, dim, keep)
            check.tensor(fname, "self", t)
            local d, k = reduction(t, fname, dim, keep)
            return raw.tensor_reduce(op, t, d, k)
        end
    end

    -- Index of the largest element along dim (of equals the first), 1-based, in i64.
    function methods.argmax(t, dim, keep)
        local d, k = reduction(t, "Tensor:argmax", dim, keep)
        local out = raw.tensor_reduce(raw.ARGMAX, t, d, k)
        local values = M.read(out)
        for i = 1, #values do
            values[i] = values[i] + 1
        end
        if #values > 0 then
            raw.tensor_write(out, values)
        end
        return out
    end

    local function softmax(t, fname, dim, log)
        check.tensor(fname, "self", t)
        if type(dim) == "table" then
            dim = dim.dim == nil and dim[1] or dim.dim
        end
        local last = raw.tensor_rank(t) - 1
        local d = dim == nil and last or M.dimension(t, fname, "dim", dim)
        if d == last then
            return raw.tensor_softmax(t, log)
        end
        local turned = methods.contiguous(raw.tensor_transpose(t, d, last))
        return raw.tensor_transpose(raw.tensor_softmax(turned, log), d, last)
    end

    -- Exponentials that sum to 1 along dim (default: the last).
    function methods.softmax(t, dim)
        return softmax(t, "Tensor:softmax", dim, 0)
    end

    -- Logarithm of the softmax along dim (default: the last).
    function methods.log_softmax(t, dim)
        return softmax(t, "Tensor:log_softmax", dim, 1)
    end

    -- Many matrices by one are one matrix by one; a vector is a column on the right and a row on the left.
    local function matmul(fname, a, b)
        local ra, rb = raw.tensor_rank(a), raw.tensor_rank(b)
        if ra == rb and ra ~= 1 or rb > 2 and ra ~= 1 then
            return named(fname, pcall(raw.tensor_matmul, a, b))
        end
        local sa, sb = methods.shape(a), methods.shape(b)
        if ra == 0 or rb == 0 or sa[ra] ~= sb[math.max(rb - 1, 1)] then
            errors.raise("ESHAPE", "%s: a is %s, b is %s; wanted [...,M,K] and [...,K,N], or [K] for either",
                fname, format.shape(sa), format.shape(sb))
        end
        if ra == 1 and rb > 1 then
            return matmul(fname, methods.transpose(b), a)
        end
        local rows = 1
        for i = 1, ra - 1 do
            rows = rows * sa[i]
        end
        sa[ra] = rb == 2 and sb[2] or nil
        local product = named(fname, pcall(raw.tensor_matmul, methods.reshape(a, { rows, sb[1] }),
            methods.reshape(b, { sb[1], rb == 2 and sb[2] or 1 })))
        return methods.reshape(product, sa)
    end

    -- The product with b: [..,M,K] times [..,K,N] or [K,N]; either may be a vector [K].
    function methods.matmul(a, b)
        check.tensor("Tensor:matmul", "left operand", a)
        check.tensor("Tensor:matmul", "right operand", b)
        return matmul("Tensor:matmul", a, b)
    end

    -- a [..,M,K] times b [..,K,N]; either may be a vector [K].
    function M.matmul(a, b)
        check.tensor("distac.matmul", "a", a)
        check.tensor("distac.matmul", "b", b)
        return matmul("distac.matmul", a, b)
    end

    local function matrix(t, fname)
        check.tensor(fname, "self", t)
        if raw.tensor_rank(t) ~= 2 then
            errors.raise("ESHAPE", "%s: wanted a tensor of rank 2, got a %s", fname, format.head(t))
        end
        return raw.tensor_size(t, 0), raw.tensor_size(t, 1), raw.tensor_dtype(t)
    end

    -- u [M,R], s [R] descending, vt [R,N] with t = u diag(s) vt and R = min(M, N).
    function methods.svd(t)
        local m, n, code = matrix(t, "Tensor:svd")
        local r = math.min(m, n)
        local u, s, vt = raw.tensor_create_beside(t, code, { m, r }), raw.tensor_create_beside(t, code, { r }),
            raw.tensor_create_beside(t, code, { r, n })
        raw.tensor_svd(t, u, s, vt)
        return u, s, vt
    end

    -- Eigenvalues w [N] ascending and eigenvectors v [N,N], its columns, of a symmetric matrix.
    function methods.eigh(t)
        local m, n, code = matrix(t, "Tensor:eigh")
        if m ~= n then
            errors.raise("ESHAPE", "Tensor:eigh: wanted a square matrix, got a %s", format.head(t))
        end
        local w, v = raw.tensor_create_beside(t, code, { n }), raw.tensor_create_beside(t, code, { n, n })
        raw.tensor_eigh(t, w, v)
        return w, v
    end

    -- Same shape and equal elements (NaN equals nothing).
    function methods.equal(a, b)
        check.tensor("Tensor:equal", "other", b)
        local sa, sb = methods.shape(a), methods.shape(b)
        if #sa ~= #sb then
            return false
        end
        for i = 1, #sa do
            if sa[i] ~= sb[i] then
                return false
            end
        end
        local va, vb = M.read(a), M.read(b)
        for i = 1, #va do
            if not (va[i] == vb[i]) then
                return false
            end
        end
        return true
    end

    -- The tensors one after the other along dim (default 1).
    function M.cat(list, dim)
        local fname = "distac.cat"
        check.table(fname, "list", list)
        if #list == 0 then
            errors.raise("EINVAL", "%s: list: wanted at least one Tensor, got none", fname)
        end
        for i, t in ipairs(list) do
            check.tensor(fname, string.format("list[%.0f]", i), t)
        end
        local d = M.dimension(list[1], fname, "dim", dim == nil and 1 or dim)
        local shape, total = methods.shape(list[1]), 0
        for i, t in ipairs(list) do
            local s = methods.shape(t)
            for k = 1, math.max(#s, #shape) do
                if k ~= d + 1 and s[k] ~= shape[k] or #s ~= #shape then
                    errors.raise("ESHAPE", "%s: list[%.0f] is a %s and does not fit the first, a %s", fname, i,
                        format.head(t), format.head(list[1]))
                end
            end
            total = total + s[d + 1]
        end
        shape[d + 1] = total
        local out, at = raw.tensor_create_beside(list[1], raw.tensor_dtype(list[1]), shape), 0
        for _, t in ipairs(list) do
            local n = raw.tensor_size(t, d)
            raw.tensor_copy(raw.tensor_narrow(out, d, at, n), t)
            at = at + n
        end
        return out
    end
end
