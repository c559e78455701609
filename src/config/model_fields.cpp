#include "deeplab/config/model_fields.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "deeplab/base/text.h"

namespace deeplab::config {

namespace {

// Their order is that of the checksums of checkpoints.
void add_version_1(Table<model::ModelConfig>& t) {
    t.choice("model.backbone", DEEPLAB_MEMBER(backbone), model::backbone_names(),
             "the network that makes the features", {.place = "backbone"});
    t.choice("model.output_stride", DEEPLAB_MEMBER(output_stride), std::vector<int>{8, 16},
             "pixels of the image for one of the backbone's last map; 8 costs about three "
             "times 16",
             {.place = "output_stride"});
    t.number("model.num_classes", DEEPLAB_MEMBER(num_classes),
             Whole{.low = 2, .high = 255, .zero = "for the data set's"},
             "outputs of the classifier", {.place = "num_classes"});
    // The narrowest convolution has 48 channels.
    t.number("model.width_divisor", DEEPLAB_MEMBER(width_divisor), Whole{.low = 1, .high = 48},
             "of the channels of all layers, for tests", {.key = false, .place = "width_divisor"});
    t.numbers("model.dropout", DEEPLAB_MEMBER(dropout),
              Real{.low = 0, .high = 1, .ends = Ends::low},
              "probabilities behind the ASPP's projection and the decoder's two 3x3 "
              "convolutions",
              {.place = "model/dropout"});
    t.number("model.bn_eps", DEEPLAB_MEMBER(bn_eps), Real{.low = 0, .high = 1, .ends = Ends::high},
             "added to the variance in batch normalization; in the backbone of an Xception it "
             "is 1e-3",
             {.place = "model/batch_norm_eps_momentum"});
    t.number("model.bn_momentum", DEEPLAB_MEMBER(bn_momentum), Real{.low = 0, .high = 1},
             "of the running statistics, in PyTorch's sense: the weight of the new batch",
             {.place = "model/batch_norm_eps_momentum"});
}

}  // namespace

// The rows of version 1 (with a place) keep their order: the checksums of checkpoints have it. A
// new row is `newer`, has no place and stands anywhere below.
const Fields<model::ModelConfig>& model_fields() {
    static const auto fields = [] {
        Table<model::ModelConfig> t;
        add_version_1(t);
        // Version 1 had them in its files; the keys came later.
        t.numbers("model.mean", DEEPLAB_MEMBER(mean), Real{.low = 0, .high = 1},
                  "of the images, red, green, blue, where 1 is the brightest: the network sees "
                  "(value - mean) / std; the weights of --init must have been trained with the "
                  "same",
                  {.newer = true, .place = "normalisation/mean"});
        t.numbers("model.std", DEEPLAB_MEMBER(std), Real{.low = 0.001, .high = 1},
                  "of the images, as model.mean", {.newer = true, .place = "normalisation/std"});
        t.flag("model.separable", DEEPLAB_MEMBER(separable),
               "the ASPP's atrous 3x3 convolutions and the decoder's two become a depthwise 3x3 "
               "and a 1x1, each with batch norm and ReLU",
               {.newer = true});
        using model::Dilation;
        t.choice("model.dilation", DEEPLAB_MEMBER(dilation),
                 Named<Dilation>{{"uniform", Dilation::uniform},
                                 {"layer", Dilation::layer},
                                 {"torchvision", Dilation::torchvision},
                                 {"multigrid", Dilation::multigrid}},
                 "where the output stride takes the place of a stride of the backbone, what "
                 "follows is dilated: \"uniform\", the layer that gave its stride up, too; "
                 "\"layer\", that one not yet, as in the TensorFlow code: what mobilenet_v2, "
                 "xception41, xception65 and xception71 should have, and they alone can; of a "
                 "ResNet alone \"torchvision\", the block that gave its stride up not yet, and "
                 "\"multigrid\", all blocks, those of the last stage by 1, 2 and 4 times its rate",
                 {.newer = true});
        t.flag("model.align_corners", DEEPLAB_MEMBER(align_corners),
               "bilinear resizes map corner pixels onto each other; false: pixels are squares, and "
               "the corners of the pictures lie on each other, as weights of some other programs "
               "need it",
               {.newer = true});
        t.choice("model.decoder_convs", DEEPLAB_MEMBER(decoder_convs), std::vector<int>{1, 2},
                 "3x3 convolutions of the decoder; with one the third probability of "
                 "model.dropout has no place",
                 {.newer = true});
        return std::move(t).fields();
    }();
    return fields;
}

Switches switches(const model::ModelConfig& of, const model::ModelConfig& other) {
    constexpr std::string_view names[] = {"model.dilation", "model.align_corners",
                                          "model.decoder_convs"};
    Switches found;
    for (const auto& field : model_fields()) {
        const std::string value = io::to_json(field.get(of));
        if (std::find(std::begin(names), std::end(names), field.name) == std::end(names) ||
            value == io::to_json(field.get(other)))
            continue;
        const io::Value stored = field.get(of);
        const auto* word = stored.get_if<std::string>();
        found.text += cat(found.text.empty() ? "" : ", ", field.name, " = ", value);
        found.options += cat(found.options.empty() ? "" : " ", "--set ", field.name, "=",
                             word != nullptr ? *word : value);
    }
    return found;
}

}  // namespace deeplab::config
