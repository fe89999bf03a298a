-- MNIST (LeCun et al. 1998); the engine knows the names of its classes.
return {
    templates = {
        'a photo of the number: "{}".',
    },
}
