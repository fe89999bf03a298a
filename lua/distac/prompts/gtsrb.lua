-- GTSRB (Stallkamp et al. 2012); the engine knows the names of its classes.
return {
    templates = {
        'a zoomed in photo of a "{}" traffic sign.', 'a centered photo of a "{}" traffic sign.',
        'a close up photo of a "{}" traffic sign.',
    },
}
