-- EuroSAT (Helber et al. 2019); the engine knows the names of its classes.
return {
    templates = {
        "a centered satellite photo of {}.", "a centered satellite photo of a {}.",
        "a centered satellite photo of the {}.",
    },
}
