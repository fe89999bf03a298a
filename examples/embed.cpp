// embed.cpp: a C++ host: conditions a fine-tuned model on a folder of unlabelled pictures (the paper's Algorithm 1).
//
//   c++ -std=c++17 embed.cpp $(pkg-config --cflags --libs distac) -o embed_cpp
//   ./embed_cpp base.safetensors model.safetensors head.safetensors pictures/ out.safetensors [KAPPA] [STEPS]
//
// Handles are owned by unique_ptr and failures are exceptions; that is all a C++ host needs on top of distac.h.
#include <distac.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <stdexcept>

namespace {

// Handle<distac_tensor, distac_tensor_release> frees itself; out(handle) is where a call puts its result.
template <auto Release> struct Releaser {
    template <class T> void operator()(T *object) const noexcept { Release(object); }
};
template <class T, void (*Release)(T *)> using Handle = std::unique_ptr<T, Releaser<Release>>;

using Context = Handle<distac_context, distac_context_release>;
using Tensor = Handle<distac_tensor, distac_tensor_release>;
using Checkpoint = Handle<distac_checkpoint, distac_checkpoint_release>;
using Vit = Handle<distac_vit, distac_vit_release>;
using Head = Handle<distac_head, distac_head_release>;
using Dataset = Handle<distac_dataset, distac_dataset_release>;
using Loader = Handle<distac_loader, distac_loader_release>;
using Optimizer = Handle<distac_optimizer, distac_optimizer_release>;
using Distillation = Handle<distac_kd, distac_kd_release>;

struct Error : std::runtime_error {
    explicit Error(distac_status code) : std::runtime_error(distac_last_error()), status(code) {}
    distac_status status;
};

void check(distac_status status) {
    if (status != DISTAC_OK) throw Error(status);
}

// make<Tensor>(distac_kd_anchor, kd): calls the function with the arguments and owns what it gives.
template <class Owner, class Function, class... Arguments> Owner make(Function function, Arguments... arguments) {
    typename Owner::pointer object = nullptr;
    check(function(arguments..., &object));
    return Owner(object);
}

// base + scale * (model - base), as a model of its own.
Vit scaled(distac_context *context, const distac_checkpoint *base, const distac_checkpoint *model, double scale) {
    auto weights = make<Checkpoint>(distac_checkpoint_combine, 1 - scale, base, scale, model);
    auto vit = make<Vit>(distac_vit_open, context, base, -1, 0, static_cast<int32_t>(DISTAC_F32));
    check(distac_vit_load(vit.get(), weights.get()));
    return vit;
}

void condition(distac_context *context, char **paths, double kappa, int steps) {
    auto base = make<Checkpoint>(distac_checkpoint_open, context, paths[0]);
    auto model = make<Checkpoint>(distac_checkpoint_open, context, paths[1]);
    auto head_file = make<Checkpoint>(distac_checkpoint_open, context, paths[2]);
    auto weight = make<Tensor>(distac_checkpoint_tensor, head_file.get(), 0);
    auto head = make<Head>(distac_head_create, weight.get(), 1);

    auto teacher = scaled(context, base.get(), model.get(), 1);
    auto student = scaled(context, base.get(), model.get(), kappa);
    distac_vit_config shape;
    check(distac_vit_get_config(student.get(), &shape));
    auto pictures = make<Dataset>(distac_dataset_folder, context, paths[3], shape.image, shape.channels);
    if (shape.channels == 3) { // CLIP's normalisation
        const double mean[] = {0.48145466, 0.4578275, 0.40821073};
        const double deviation[] = {0.26862954, 0.26130258, 0.27577711};
        check(distac_dataset_normalize(pictures.get(), 3, mean, 3, deviation));
    }
    auto loader = make<Loader>(distac_loader_create, pictures.get(), int64_t{32}, uint64_t{0});

    distac_adamw_desc adamw{};
    adamw.lr = 1e-4;
    adamw.clip = 1;
    auto parameters = make<Tensor>(distac_vit_params, student.get());
    auto optimizer = make<Optimizer>(distac_adamw_create, context, &adamw, distac_tensor_numel(parameters.get()),
                                     static_cast<int32_t>(DISTAC_F32));
    // A sure teacher's answers are softened for the student alone, which makes it surer than its teacher.
    distac_kd_desc desc{};
    desc.t_teacher = 1;
    desc.t_student = 10;
    desc.beta = 0.5;
    auto distillation =
        make<Distillation>(distac_kd_create, student.get(), teacher.get(), head.get(), optimizer.get(), &desc);
    for (int step = 0; step < steps; step++) {
        auto images = make<Tensor>(distac_loader_images, loader.get(), int64_t{step});
        distac_step_stats stats;
        check(distac_kd_step(distillation.get(), images.get(), nullptr,
                             distac_schedule_cosine(adamw.lr, step, steps / 10, steps), &stats));
        if (step == 0 || step == steps - 1) {
            std::cout << "step " << step + 1 << ": loss " << stats.loss << ", entropy " << stats.entropy << '\n';
        }
    }
    auto result = make<Checkpoint>(distac_vit_checkpoint, student.get(), 0);
    check(distac_checkpoint_save(result.get(), paths[4], -1));
}

} // namespace

int main(int argc, char **argv) {
    if (argc < 6 || argc > 8) {
        std::cerr << "usage: " << argv[0] << " BASE MODEL HEAD PICTURES OUT [KAPPA] [STEPS]\n";
        return 2;
    }
    try {
        auto context = make<Context>(distac_context_create, nullptr);
        condition(context.get(), argv + 1, argc > 6 ? std::atof(argv[6]) : 1, argc > 7 ? std::atoi(argv[7]) : 50);
    } catch (const Error &error) {
        std::cerr << distac_status_name(error.status) << ": " << error.what() << '\n';
        return 1;
    }
    return 0;
}
