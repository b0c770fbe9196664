// The register tiles of float and double.
#include "tile_code.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {

constinit const Tiles<float> tiles_f32 =
    all_tiles<PlainDot<float>, float>(std::make_integer_sequence<int, kMaxColumns>{});
constinit const Tiles<double> tiles_f64 =
    all_tiles<PlainDot<double>, double>(std::make_integer_sequence<int, kMaxColumns>{});

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
