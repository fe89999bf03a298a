-- spec/gpu.sh without a GPU: the table made of results that were made up, and how its parts go on after an
-- interruption, with programs that are made up, too.
local distac = require "distac"
local tiny = require "spec.tiny"

describe("spec/gpu.sh", function()
    local root
    before_each(function() root = tiny.folder() end)
    after_each(function() tiny.remove(root) end)

    local function write(name, text)
        distac.fs.write(root .. "/" .. name, text)
    end
    local function read(name)
        local file = io.open(root .. "/" .. name)
        if not file then return nil end
        local text = file:read "*a"
        file:close()
        return text
    end
    -- Runs it with these variables and words: its output.
    local function gpu(set, words)
        local command = ("env -u LD_PRELOAD -u CMAKE_OPTIONS -u GPU_TIME -u GPU_OUT -u GPU_RESUME GPU_FORCE=1 "
            .. "PYTHON=false BUILD=%s/build GPU_STATE=%s/state GPU_WORK=%s/work %s spec/gpu.sh %s 2>&1")
            :format(root, root, root, set, words)
        local pipe = io.popen(command)
        local text = pipe:read "*a"
        pipe:close()
        return text
    end
    local function program(name, text)
        write("build/spec/" .. name, "#!/bin/sh\n" .. text .. "\n")
        os.execute("chmod +x " .. root .. "/build/spec/" .. name)
    end
    local function row(text, ...) -- the cells of the line that begins with these
        local wanted = "| " .. table.concat({ ... }, " | ") .. " |"
        for line in text:gmatch "[^\n]+" do
            if line:sub(1, #wanted) == wanted then
                local cells = {}
                for cell in line:sub(2):gmatch "%s*([^|]-)%s*|" do cells[#cells + 1] = cell end
                return cells
            end
        end
        error("no row " .. wanted .. " in\n" .. text)
    end

    before_each(function()
        for _, name in ipairs { "state", "build/spec", "work" } do os.execute("mkdir -p " .. root .. "/" .. name) end
    end)

    it("computes shares and ratios in its table", function()
        local function own(size, products, rate, share)
            write(("state/%s-%s.log"):format(size, products), ('a line\n{"who":"distac","size":"%s","products":"%s",'
                .. '"batch":128,"steps":900,"seconds":10.000,"images_per_s":%g,"ms_per_step":10.667,'
                .. '"flops_image":3.5e+10,"tflops":420.00,"peak_tflops":700.00,"share":%g,'
                .. '"memory_peak":9000000000,"loss":0.1}\n'):format(size, products, rate, share))
        end
        local function torch(size, products, way, rate)
            write(("state/torch-%s-%s-%s.log"):format(size, products, way), ('{"who": "torch %s", "size": "%s", '
                .. '"images_per_s": %g, "memory_peak": 12000000000, "version": "2.11.0+cu130"}\n')
                :format(way, size, rate))
        end
        own("b32", "bf16", 12000, 0.6)
        own("l14", "bf16", 900, 0.49)
        own("b32", "f32", 1000, 0.5)
        torch("b32", "bf16", "eager", 4000)
        torch("b32", "bf16", "compile", 8000)
        torch("b32", "bf16", "graphs", 9600)
        torch("l14", "bf16", "compile", 900)
        write("state/b32-500.log", '{"who":"distac","steps":500,"seconds":5.0,"images_per_s":12800}\n')
        write("state/tsvm-l14.log", '{"what":"tsvm","seconds":2.5,"first_s":4,"memory_peak":3000000000}\n')
        write("state/torch-tsvm-l14.log", '{"what": "tsvm", "matrices": 98, "measured": 5, "seconds": 400.0}\n')
        write("state/startup.log", '{"open_s":0.25,"first_step_s":0.5}\n{"open_s":0.3,"first_step_s":0.4}\n')
        write("state/torch-startup.log", '{"import_s": 2.5, "device_s": 0.2}\n')
        write("state/b32-bf16.status", "done in 13 s\n")
        write("state/l14-f32.status", "failed (1): a | b\n")
        assert.truthy(gpu("", "table"):find("table +done"))
        local text = read "state/table.md"
        local b32, l14 = row(text, "ViT-B/32", "bf16"), row(text, "ViT-L/14", "bf16")
        local f32 = row(text, "ViT-B/32", "f32")
        assert.same({ "ViT-B/32", "bf16", "12000", "10.67", "420.0", "700.0", "60 %", "9.0 GB", "4000", "9600",
            "graphs", "48 %", "12.0 GB", "3.00 x", "1.25 x" }, b32)
        assert.equal("1.00 x", l14[15])
        assert.equal("not run", f32[9])
        assert.equal("-", f32[15])
        assert.equal("not run", row(text, "ViT-L/14", "tf32")[3])
        assert.same({ "ViT-L/14", "2.50", "4.00", "3.0 GB", "400.0", "5 of 98 matrices", "160.00 x" },
            row(text, "ViT-L/14", "2.50"))
        for _, wanted in ipairs { "500 steps: distac 5.00 s, torch.compile 6.67 s by its rate: 1.33 x.",
            "A context on the device: 0.25, 0.30 s, its first step 0.50, 0.40 s",
            "PyTorch: import 2.5 s, first tensor on the device 0.2 s", "PyTorch: 2.11.0+cu130",
            "- ViT-B/32, bf16, beside torch.compile: goal 1.2 x, measured 1.25 x: met",
            "- ViT-L/14, bf16, beside torch.compile: goal 1.2 x, measured 1.00 x: MISSED",
            "- ViT-L/14, bf16, share of the peak: goal 0.5, measured 0.49: MISSED",
            "- TSV-M of 8 ViT-B/32: goal 10 x, not measured",
            "- TSV-M of 8 ViT-L/14: goal 10 x, measured 160.00 x: met",
            "| b32-bf16 | done in 13 s |", "| l14-f32 | failed (1): a   b |", "| memcheck | not run |" } do
            assert.truthy(text:find(wanted, 1, true), wanted .. " in\n" .. text)
        end
    end)

    it("goes on after an interruption, on another machine, too", function()
        program("bench_device", [[[ "$1" = tiny ] || sleep 30; echo '{"open_s":1,"first_step_s":2}']])
        write("state/build.status", "done in 1 s\n")
        local text = gpu("GPU_MARGIN=1 GPU_TIME=8 GPU_OUT=" .. root .. "/out", "startup b32-bf16 l14-bf16")
        assert.truthy(text:find "startup +done in")
        assert.truthy(text:find("b32-bf16: cut short after", 1, true), text)
        assert.is_nil(text:find "l14%-bf16 +") -- there was no time left to begin it
        assert.truthy(text:find("1 passed, 0 failed, 0 skipped, 2 left for want of time", 1, true), text)
        assert.is_nil(read "state/b32-bf16.status")
        assert.truthy(read "out/table.md":find("| startup | done in", 1, true))
        os.execute(("rm -r %s/state && mkdir %s/state"):format(root, root)) -- another machine
        local list = gpu("GPU_TIME=0 GPU_RESUME=" .. root .. "/out/gpu.tgz", "")
        assert.truthy(list:find "table +done in", list)
        assert.truthy(gpu("", "--list"):find "startup +done in")
        assert.truthy(gpu("", "--list"):find "\nb32%-bf16 +not run")
        assert.truthy(gpu("", "--list"):find "build +not run") -- that machine's build is not this one's
    end)

    it("tells what failed and what is missing, by name", function()
        program("test_numerics", "echo something is wrong; exit 3")
        program("bench_device", "echo no device >&2; exit 3")
        local text = gpu("", "numerics tsvm-b32 b32-bf16 torch-startup")
        assert.truthy(text:find("numerics +failed %(1%): test_numerics ended with 3"), text)
        assert.truthy(text:find("tsvm%-b32 +skipped: bench_merge_device is not built"), text)
        assert.truthy(text:find("b32%-bf16 +failed %(3%): no device"), text)
        assert.truthy(text:find("torch%-startup +skipped: false has no torch that sees a GPU"), text)
        assert.truthy(text:find("0 passed, 2 failed, 2 skipped, 0 left", 1, true), text)
        assert.truthy(gpu("", "nonsense"):find("no such part: nonsense", 1, true))
        assert.truthy(read "state/numerics.log":find("something is wrong", 1, true))
    end)
end)
