-- distac.translate.known: what mergekit 0.1.5 knows: keys, methods and their parameters.

local known = {}

known.TOP = { "merge_method", "models", "slices", "base_model", "parameters", "dtype", "out_dtype",
    "tokenizer_source",
              "tokenizer", "chat_template", "name", "modules" }

-- of each method: its parameters, and what mergekit takes where nothing is said
known.METHODS = {
    linear = { "weight", "normalize", normalize = true },
    task_arithmetic = { "weight", "lambda", "normalize", "int8_mask", "rescale", normalize = false },
    ties = { "weight", "density", "lambda", "normalize", "int8_mask", "rescale", normalize = true },
    dare_ties = { "weight", "density", "lambda", "normalize", "int8_mask", "rescale", normalize = false },
    dare_linear = { "weight", "density", "lambda", "normalize", "int8_mask", "rescale", normalize = false },
    della = { "weight", "density", "epsilon", "lambda", "normalize", "int8_mask", "rescale", normalize = true },
    della_linear = { "weight", "density", "epsilon", "lambda", "normalize", "int8_mask", "rescale",
        normalize = false },
    breadcrumbs = { "weight", "density", "gamma", "lambda", "normalize", "int8_mask", "rescale",
        normalize = false },
    breadcrumbs_ties = { "weight", "density", "gamma", "lambda", "normalize", "int8_mask", "rescale",
                         normalize = false },
    model_stock = { "filter_wise" },
    slerp = { "t" },
    nuslerp = { "weight", "nuslerp_flatten", "nuslerp_row_wise" },
}
known.OTHERS = { "multislerp", "karcher", "sce", "ram", "ramplus_tl", "nearswap", "arcee_fusion", "passthrough" }
known.PARAMETERS = { "weight", "density", "epsilon", "gamma", "lambda", "normalize", "int8_mask", "rescale",
                     "filter_wise", "t", "nuslerp_flatten", "nuslerp_row_wise" }

function known.contains(list, name)
    for _, item in ipairs(list) do
        if item == name then return true end
    end
    return false
end

return known
