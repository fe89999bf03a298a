-- The merging methods that need a model and images. Each is a file here: name, text, params (as
-- distac.merge.methods tells them, without lambda), direction(job), which returns the merged direction of the
-- encoder's parameters as one vector, what the other tensors are weighted with (a list of one number per task
-- vector) and notes, and memory(values, model, tasks), the bytes that it holds beside base and task vectors.
local methods = {}
for i, name in ipairs { "fisher", "regmean", "adamerging" } do
    methods[i] = require("distac.methods." .. name)
end
return methods
