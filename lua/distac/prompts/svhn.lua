-- SVHN: the digits (Netzer et al. 2011).
return {
    classes = [[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9 ]],
    templates = {
        'a photo of the number: "{}".',
    },
}
