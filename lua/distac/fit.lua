-- distac.fit: how a training step goes through its batch so that the run fits the memory that it may use:
-- --memory, or nine tenths of the machine's. The order of choices:
--   1. all images at once, activations kept (micro 0, no recomputation);
--   2. activations computed again in the backward pass: slower, the same bits;
--   3. smaller and smaller micro-batches as well (half, a quarter, ...): other rounding of sums over the batch, so
--      a stage's key holds micro, and a recipe that says micro gives the same bits on every machine.
-- What a recipe says itself (micro, recompute) is not changed.

local fit = {}

local function engine() return require "distac" end

-- What a step may use, in bytes, and whether the user said it.
function fit.limit()
    local info = engine().context_info()
    if info.memory_limit and info.memory_limit > 0 then return info.memory_limit, true end
    local function kind(name) return tostring(name):match("^%a+") end
    for _, device in ipairs(engine().devices()) do
        if device.name == info.device or kind(info.device) == kind(device.name) then
            return math.floor(device.memory * 0.9), false
        end
    end
    return math.huge, false
end

-- Copies of the parameters that are held at once: the base; for fine-tuning weights, gradient and two moments; for
-- distillation the teacher and the anchor, too.
local copies = { finetune = 1 + 4, mtl = 1 + 4, condition = 1 + 6 }

local slice_limit = 128 -- images of a pass where micro is 0

-- fit.new(model): a function (kind, settings) -> { micro =, recompute =, bytes =, fits = }. The model is only
-- asked for sizes.
function fit.new(model, limit)
    local config, limit_bytes = model:config(), limit or fit.limit()
    local weights = 4 * model:numel()
    local image = 4 * config.channels * config.image * config.image
    local can_recompute = type(model.recompute) == "function"
    local known = {}
    -- What a kernel holds while it runs, as distac_vit_workspace's comment has it.
    local grid = config.image / config.patch
    local widest = math.max(3 * config.width, config.mlp, config.channels * config.patch * config.patch) + 64
    local function scratch(slice)
        -- Sixteen threads' blocks, whatever their number: micro must not depend on it.
        return 4 * math.max(config.width, slice * (grid * grid + 1)) * widest + 16 * 2 ^ 20
    end
    local function workspace(slice, recompute)
        local key = slice .. (recompute and "r" or "")
        if not known[key] then
            local was = can_recompute and model:recompute()
            if can_recompute then model:recompute(recompute) end
            known[key] = model:workspace(slice, true)
            if can_recompute then model:recompute(was) end
        end
        return known[key]
    end
    return function(kind, s)
        -- Batches of images: the one in use, two being made ahead, and Mixup's mixture.
        local fixed = copies[kind] * weights + 4 * s.batch * image
        local function need(micro, recompute)
            local slice = math.min(micro > 0 and micro or slice_limit, s.batch)
            local bytes = fixed + workspace(slice, recompute) + scratch(slice)
            if kind == "condition" then bytes = bytes + model:workspace(slice, false) end
            return bytes
        end
        local function choice(micro, recompute)
            local bytes = need(micro, recompute)
            return { micro = micro, recompute = recompute, bytes = bytes, fits = bytes <= limit_bytes }
        end
        local again = s.recompute
        local best = choice(s.micro or 0, again or false)
        if best.fits then return best end
        if again == nil and can_recompute then best = choice(s.micro or 0, true) end
        if best.fits or s.micro ~= nil then return best end
        local micro = math.min(slice_limit, s.batch)
        while micro > 1 and not best.fits do
            micro = math.ceil(micro / 2)
            best = choice(micro, best.recompute)
        end
        return best
    end
end

return fit
