# The table of spec/gpu.sh from its parts' results, with shares and ratios. Lines: `day D`, `device D`, `toolkit T`,
# `batch N`, then for each part `part NAME STATUS` and `json NAME {…}` for every line of JSON that it printed.
function get(line, key,   text) { # a field of a flat JSON object, "" if there is none
    if (!match(line, "\"" key "\": *(\"[^\"]*\"|[^,}]*)")) return ""
    text = substr(line, RSTART, RLENGTH)
    sub(/^"[^"]*": */, "", text)
    gsub(/"/, "", text)
    return text
}
function fixed(value, digits) { return value == "" ? "not run" : sprintf("%." digits "f", value) }
function ratio(a, b) { return a == "" || b == "" || b + 0 == 0 ? "-" : sprintf("%.2f x", a / b) }
function gigabytes(bytes) { return bytes == "" ? "-" : sprintf("%.1f GB", bytes / 1e9) }
# The faster of the ways in which PyTorch compiles: images a second in `best`, which in `way`.
function compiled(size, products,   i, name, rate) {
    best = way = ""
    split("compile graphs autotune", modes, " ")
    for (i = 1; i <= 3; i++) {
        name = "torch-" size "-" products "-" modes[i]
        rate = get(json[name], "images_per_s")
        if (rate != "" && rate + 0 > best + 0) { best = rate; way = modes[i]; best_memory = get(json[name], "memory_peak") }
    }
}
function goal(text, value, wanted, unit) {
    if (value == "") printf "- %s: goal %s%s, not measured\n", text, wanted, unit
    else printf "- %s: goal %s%s, measured %.2f%s: %s\n", text, wanted, unit, value, unit, (value + 0 >= wanted + 0 ? "met" : "MISSED")
}
function quotient(a, b) { return a == "" || b == "" || b + 0 == 0 ? "" : a / b }

$1 == "day" || $1 == "toolkit" || $1 == "batch" || $1 == "device" { word = $1; sub(/^[a-z]+ /, ""); head[word] = $0; next }
$1 == "part" { order[++count] = $2; name = $2; sub(/^part [^ ]+ /, ""); status[name] = $0; next }
$1 == "json" {
    name = $2
    sub(/^json [^ ]+ /, "")
    if (name == "startup") { opened[++starts] = get($0, "open_s"); stepped[starts] = get($0, "first_step_s") }
    if (name == "files-b32") files[get($0, "device")] = get($0, "seconds")
    if (name ~ /^merges-/) merged[name "-" get($0, "what")] = $0
    json[name] = $0
    next
}
END {
    print "# On a GPU, " head["day"] "\n"
    version = get(json["torch-b32-bf16-compile"], "version")
    if (version == "") version = get(json["torch-startup"], "version")
    print "Device and driver: " head["device"] ". CUDA Toolkit: " head["toolkit"] ". PyTorch: " (version == "" ? "not run" : version) "."
    print "Made by `spec/gpu.sh`, which says how each part is run.\n"

    print "## A distillation step, batch " head["batch"] "\n"
    print "Images a second of the whole step (teacher forward, student forward and backward, loss, anchor, clipping, AdamW); share:"
    print "the products' floating-point operations as a part of the largest matrix product measured in the same process, random"
    print "factors of the same type; PyTorch's share: the same operations an image, beside our measured peak. torch.compile: the"
    print "fastest of its ways that were run.\n"
    print "| model | products | distac | ms a step | TFLOP/s | peak | share | memory | torch eager | torch.compile | its way | its share | its memory | beside eager | beside compile |"
    print "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    split("b32 l14", sizes, " ")
    split("bf16 tf32 f32", kinds, " ")
    title["b32"] = "ViT-B/32"; title["l14"] = "ViT-L/14"
    for (s = 1; s <= 2; s++) for (k = 1; k <= 3; k++) {
        own = json[sizes[s] "-" kinds[k]]
        rate = get(own, "images_per_s"); share = get(own, "share"); peak = get(own, "peak_tflops")
        eager = get(json["torch-" sizes[s] "-" kinds[k] "-eager"], "images_per_s")
        compiled(sizes[s], kinds[k])
        if (kinds[k] == "bf16") { beside[sizes[s]] = quotient(rate, best); share_of[sizes[s]] = share }
        its = quotient(best * get(own, "flops_image") / 1e12, peak)
        printf "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", title[sizes[s]], kinds[k],
            fixed(rate, 0), fixed(get(own, "ms_per_step"), 2), fixed(get(own, "tflops"), 1), fixed(peak, 1),
            share == "" ? "not run" : sprintf("%.0f %%", 100 * share), gigabytes(get(own, "memory_peak")), fixed(eager, 0),
            fixed(best, 0), way == "" ? "-" : way, best == "" || its == "" ? "-" : sprintf("%.0f %%", 100 * its),
            best == "" ? "-" : gigabytes(best_memory), ratio(rate, eager), ratio(rate, best)
    }

    print "\n## One task, ViT-B/32, bf16\n"
    own = json["b32-500"]
    compiled("b32", "bf16")
    steps = get(own, "steps")
    theirs = best == "" || steps == "" ? "" : steps * head["batch"] / best
    if (steps == "") print "Not run."
    else {
        printf "%s steps: distac %.2f s", steps, get(own, "seconds")
        if (theirs != "") printf ", torch.compile %.2f s by its rate: %s", theirs, ratio(theirs, get(own, "seconds"))
        print "."
    }

    print "\n## TSV-M of 8 models\n"
    print "distac: task vectors in the host's memory, merged in double on the device, the result in the host's memory again; the"
    print "first merge also opens the libraries. PyTorch: random matrices on the device, full SVDs in float32 one by one; where"
    print "time was short, some of each shape were measured and their mean counted for the rest.\n"
    print "| model | distac s | first s | memory | torch s | measured | faster |"
    print "|---|---|---|---|---|---|---|"
    for (s = 1; s <= 2; s++) {
        own = json["tsvm-" sizes[s]]; other = json["torch-tsvm-" sizes[s]]
        seconds = get(own, "seconds"); theirs = get(other, "seconds")
        faster[sizes[s]] = quotient(theirs, seconds)
        printf "| %s | %s | %s | %s | %s | %s | %s |\n", title[sizes[s]], fixed(seconds, 2), fixed(get(own, "first_s"), 2),
            gigabytes(get(own, "memory_peak")), fixed(theirs, 1),
            theirs == "" ? "-" : get(other, "measured") " of " get(other, "matrices") " matrices", ratio(theirs, seconds)
    }
    if (files["cuda"] != "")
        printf "\nEight ViT-B/32 of files to a file, whole process: %.2f s on the device, %.2f s on the CPU.\n", files["cuda"], files["cpu"]

    print "\n## Merging 8 models on the device\n"
    print "Task vectors and result in float32 on the device; GB/s: each of them once, in the time of the merge, however often it"
    print "is read. Sent: moving the task vectors there, once for all merges.\n"
    print "| model | method | ms | GB/s | sent s |"
    print "|---|---|---|---|---|"
    split("average task_arithmetic ties consensus_ta tsvm", methods, " ")
    for (s = 1; s <= 2; s++) for (k = 1; k <= 5; k++) {
        own = merged["merges-" sizes[s] "-" methods[k]]
        seconds = get(own, "seconds")
        printf "| %s | %s | %s | %s | %s |\n", title[sizes[s]], methods[k], fixed(seconds == "" ? "" : 1000 * seconds, 2),
            fixed(get(own, "gb_s"), 0), fixed(get(own, "send_s"), 2)
    }

    print "\n## Start-up\n"
    if (!starts) print "Not run."
    else printf "A context on the device: %s s, its first step %s s (the process began anew each time). ", list(opened), list(stepped)
    if (json["torch-startup"] != "")
        printf "PyTorch: import %s s, first tensor on the device %s s.", get(json["torch-startup"], "import_s"), get(json["torch-startup"], "device_s")
    if (starts) print ""

    print "\n## Goals\n"
    goal("ViT-B/32, bf16, beside torch.compile", beside["b32"], 1.2, " x")
    goal("ViT-L/14, bf16, beside torch.compile", beside["l14"], 1.2, " x")
    goal("ViT-L/14, bf16, share of the peak", share_of["l14"], 0.5, "")
    goal("TSV-M of 8 ViT-B/32", faster["b32"], 10, " x")
    goal("TSV-M of 8 ViT-L/14", faster["l14"], 10, " x")

    print "\n## Parts\n"
    print "| part | how it ended |"
    print "|---|---|"
    for (i = 1; i <= count; i++) {
        gsub(/\|/, " ", status[order[i]])
        printf "| %s | %s |\n", order[i], status[order[i]]
    }
}
function list(values,   i, text) {
    for (i = 1; i in values; i++) text = text (i > 1 ? ", " : "") sprintf("%.2f", values[i])
    return text
}
