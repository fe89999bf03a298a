-- distac.roots: the folder that was meant where a folder of data sets holds none: one below it, or the one above.

local roots = {}

-- What lies in a root folder, by the names that the eight sets are unpacked under.
roots.names = { "stanford_cars", "dtd", "EuroSAT_splits", "EuroSAT", "gtsrb", "MNIST", "resisc45", "sun397",
                "SUN397", "svhn" }

local function fs() return require("distac").fs end

local function holds_sets(folder)
    for _, name in ipairs(roots.names) do
        if fs().kind(folder .. "/" .. name) == "folder" then return true end
    end
    return false
end

-- Another folder that holds data sets where `root` does not; nil if there is none.
function roots.near(root)
    root = root:gsub("(.)/+$", "%1")
    if fs().kind(root) ~= "folder" or holds_sets(root) then return nil end
    local above = root:match "^(.+)/[^/]+$"
    if above and holds_sets(above) then return above end
    for _, name in ipairs(fs().list(root)) do
        local below = root .. "/" .. name
        if fs().kind(below) == "folder" and holds_sets(below) then return below end
    end
end

return roots
