-- distac merge: whole models to one, streamed from file to file.

local common = require "distac.commands.common"
local method = require "distac.commands.merge_method"

local commands = {}

-- The output's layout: as asked for, else the base's. nil: nothing of CLIP.
local function output_layout(o, base)
    local own = base:layout()
    if o.to == nil then return own ~= "plain" and own or nil end
    common.layout(o.to)
    if own == "plain" then common.usage("--to " .. o.to .. ": no CLIP model is recognised in the base") end
    return o.to
end

commands.merge = {
    usage = "--base B --method M [--lambda X] [--PARAM V]... -o OUT MODEL...\n"
        .. "       distac merge --replay FILE [-o OUT] [--models DIR]",
    text = "merge fine-tuned models into one",
    example = "--base base.safetensors --method ties --keep 0.2 --lambda 0.4 -o merged.safetensors a.safetensors"
        .. " b.safetensors",
    extra = true,
    options = {
        { "base", "text", "FILE", "the model that all were fine-tuned from" },
        { "method", "text", "NAME", "how to merge: a method below, or a Lua file that returns an operator" },
        { "output", "text", "FILE", "the merged model; a folder with --shard" },
        { "only", "text", "PATTERNS",
            "tensors to merge, as \"visual.*,*.bias\"; others stay as the base has them" },
        { "except", "text", "PATTERNS", "tensors that stay as the base has them" },
        { "scale", "text", "RULES",
            "factors of lambda, as \"*.resblocks.0.*=0.5,*.bias=0\"; the last that fits counts" },
        { "dtype", "text", "TYPE", "f32, f16 or bf16 (default: the base's)" },
        { "to", "text", "LAYOUT",
            "CLIP's names in the output: open_clip, hf or custom_text (default: the base's)" },
        common.shard_option,
        { "missing-from-base", "flag", nil,
            "what a model lacks as a whole (projection, text tower) is the base's" },
        { "memory", "text", "SIZE", "the most to use, file pages apart (default: 1GiB, for whole matrices 2GiB)" },
        { "dry-run", "flag", nil, "only tell what would be read and written, in how much memory" },
        { "replay", "text", "FILE", "make a merged file again from what it says of itself, and compare" },
        { "models", "text", "DIR", "where the inputs of --replay are now" },
        { "force", "flag", nil, "overwrite the output" },
    },
    more = method.help,
    run = function(o)
        if o.replay then return require "distac.commands.merge_replay"(o) end
        if o.models then common.usage("--models DIR belongs to --replay") end
        local in_file = o.method and o.method:find("%.lua$")
        if not in_file then method.check_known(o, commands.merge) end
        local base = common.weights(common.need(o, "base", "the base model"), "--base")
        local named = not in_file
            and method.find(common.need(o, "method", "a name of those that distac merge --help lists"))
        common.models(o, "no model to merge")
        local params = in_file and method.free_parameters(o) or method.parameters(named, o)
        method.add_rules(params, o)
        local dtype, shard = common.dtype(o), common.shard(o)
        local inputs = { base }
        for _, path in ipairs(o.args) do inputs[#inputs + 1] = path end
        local out = shard
            and common.output_folder(common.need(o, "output", "the folder to write"), "--shard", o.force)
            or common.output(o, inputs)
        local operator, custom
        if in_file then
            operator, custom = method.in_file(o.method, params)
        else
            operator = method.named(named.name, params)
        end
        return require "distac.commands.merge_job" {
            operator = operator, custom = custom, base = base, models = o.args, output = out, dtype = dtype,
            layout = function(file) return output_layout(o, file) end, missing = o.missing_from_base,
            seed = o.seed or 0, dry_run = o.dry_run, memory = o.memory, shard = shard,
        }
    end,
}

return commands
