-- DTD (Cimpoi et al. 2014); the engine knows the names of its classes.
return {
    templates = {
        "a photo of a {} texture.", "a photo of a {} pattern.", "a photo of a {} thing.",
        "a photo of a {} object.", "a photo of the {} texture.", "a photo of the {} pattern.",
        "a photo of the {} thing.", "a photo of the {} object.",
    },
}
