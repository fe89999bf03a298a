-- SVHN (Netzer et al. 2011); the engine knows the names of its classes.
return {
    templates = {
        'a photo of the number: "{}".',
    },
}
