-- MNIST: the digits (LeCun et al. 1998).
return {
    classes = [[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9 ]],
    templates = {
        'a photo of the number: "{}".',
    },
}
