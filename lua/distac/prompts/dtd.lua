-- DTD: names of the 47 texture folders, sorted (Cimpoi et al. 2014).
return {
    classes = [[
    banded, blotchy, braided, bubbly, bumpy, chequered, cobwebbed, cracked, crosshatched, crystalline, dotted,
    fibrous, flecked, freckled, frilly, gauzy, grid, grooved, honeycombed, interlaced, knitted, lacelike, lined,
    marbled, matted, meshed, paisley, perforated, pitted, pleated, polka-dotted, porous, potholed, scaly,
    smeared, spiralled, sprinkled, stained, stratified, striped, studded, swirly, veined, waffled, woven,
    wrinkled, zigzagged ]],
    templates = {
        "a photo of a {} texture.", "a photo of a {} pattern.", "a photo of a {} thing.",
        "a photo of a {} object.", "a photo of the {} texture.", "a photo of the {} pattern.",
        "a photo of the {} thing.", "a photo of the {} object.",
    },
}
