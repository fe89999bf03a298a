-- EuroSAT: names for the 10 class folders in their sorted order, AnnualCrop to SeaLake (Helber et al. 2019).
return {
    classes = [[
    annual crop land, forest, brushland or shrubland, highway or road,
    industrial buildings or commercial buildings, pasture land, permanent crop land,
    residential buildings or homes or apartments, river, lake or sea ]],
    templates = {
        "a centered satellite photo of {}.", "a centered satellite photo of a {}.",
        "a centered satellite photo of the {}.",
    },
}
