#include "encode_module.h"

#include <pybind11/stl.h>

#include <mutex>
#include <stdexcept>

#include "encode.h"

namespace py = pybind11;

namespace fusedrnn::text {
namespace {

template <class Value>
Value choice(const char* what, const std::string& name, std::initializer_list<std::pair<const char*, Value>> all) {
  std::string names;
  for (const auto& [each, value] : all) {
    if (name == each) return value;
    names += std::string(names.empty() ? "" : ", ") + each;
  }
  throw std::invalid_argument(std::string(what) + ": expected one of " + names + ", got '" + name + "'");
}

// An encoder that one thread at a time uses.
class PyEncoder {
 public:
  PyEncoder(const std::string& unit, const std::vector<std::string>& tokens, bool letters, const std::string& errors,
            const std::string& unknown, const std::string& line_end, bool learn, int width)
      : encoder_(
            {choice<Unit>("unit", unit, {{"char", Unit::kCharacter}, {"word", Unit::kWord}}), letters,
             choice<OnInvalid>(
                 "errors", errors,
                 {{"error", OnInvalid::kError}, {"replace", OnInvalid::kReplace}, {"ignore", OnInvalid::kIgnore}}),
             choice<OnUnknown>("unknown", unknown,
                               {{"unk", OnUnknown::kZero}, {"skip", OnUnknown::kSkip}, {"error", OnUnknown::kRecord}}),
             line_end, learn, width},
            tokens) {
    if (width != 1 && width != 2 && width != 4)
      throw std::invalid_argument("width: expected 1, 2 or 4 bytes, got " + std::to_string(width));
    if (!learn && width < 4 && tokens.size() > size_t(1) << 8 * width)
      throw std::invalid_argument("width: expected room for " + std::to_string(tokens.size()) + " tokens, got " +
                                  std::to_string(width) + " bytes");
    if (learn && width != 4) throw std::invalid_argument("width: expected 4 where tokens are learnt");
  }

  py::bytes feed(const py::buffer& data, uint64_t limit) {
    const py::buffer_info info = data.request();
    if (info.itemsize != 1 || info.ndim != 1 || (info.size > 1 && info.strides[0] != 1))
      throw std::invalid_argument("data: expected bytes one after the other");
    return used([&] { encoder_.feed(static_cast<const uint8_t*>(info.ptr), size_t(info.size), limit); });
  }
  py::bytes finish(uint64_t limit) {
    return used([&] { encoder_.finish(limit); });
  }
  py::list tokens() {
    py::list out;
    for (const std::string& token : encoder_.tokens()) out.append(text(token));
    return out;
  }
  py::list unknown() {
    py::list out;
    for (const std::string& token : encoder_.unknown()) out.append(text(token));
    return out;
  }
  py::object invalid() {
    const auto& bad = encoder_.invalid();
    if (!bad) return py::none();
    return py::make_tuple(bad->position, bad->byte);
  }

  Encoder encoder_;

 private:
  // Tokens given by the caller may hold lone surrogates, as Python's strings may.
  static py::str text(const std::string& token) {
    return py::reinterpret_steal<py::str>(
        PyUnicode_DecodeUTF8(token.data(), Py_ssize_t(token.size()), "surrogatepass"));
  }
  template <class Work>
  py::bytes used(const Work& work) {
    std::unique_lock<std::mutex> lock(busy_, std::try_to_lock);
    if (!lock) throw std::runtime_error("expected one thread at a time to use an encoder, got two");
    {
      py::gil_scoped_release release;
      work();
    }
    return py::bytes(encoder_.output().data(), encoder_.output().size());
  }

  std::mutex busy_;
};

}  // namespace

void bind_encoder(py::module_& m) {
  constexpr uint64_t kNoLimit = UINT64_MAX;
  py::class_<PyEncoder>(m, "Encoder", "Bytes of documents to token indices: the tokenizers 'char' and 'word' natively.")
      .def(py::init<const std::string&, const std::vector<std::string>&, bool, const std::string&, const std::string&,
                    const std::string&, bool, int>(),
           py::arg("unit"), py::arg("tokens"), py::kw_only(), py::arg("letters") = false, py::arg("errors") = "error",
           py::arg("unknown") = "unk", py::arg("line_end") = "", py::arg("learn") = false, py::arg("width") = 4,
           "tokens: their UTF-8 by index. With learn, new ones get the next indices.")
      .def("feed", &PyEncoder::feed, py::arg("data"), py::arg("limit") = kNoLimit,
           "Indices (unsigned integers of `width` bytes) of what these bytes complete, `limit` at most.")
      .def("finish", &PyEncoder::finish, py::arg("limit") = kNoLimit,
           "Ends the document; to be called again where `waiting` is true afterwards.")
      .def(
          "begin_inside", [](PyEncoder& self, uint64_t position) { self.encoder_.begin_inside(position); },
          py::arg("position"), "Goes on at this byte of a document.")
      .def("tokens", &PyEncoder::tokens, "The tokens by index.")
      .def("unknown", &PyEncoder::unknown, "With unknown='error': the first 1,000 distinct unknown tokens.")
      .def("invalid", &PyEncoder::invalid, "With errors='error': position and value of the byte that is not UTF-8.")
      .def_property_readonly("waiting", [](const PyEncoder& self) { return self.encoder_.waiting(); })
      .def_property_readonly("resumable", [](const PyEncoder& self) { return self.encoder_.resumable(); })
      .def_property_readonly("tokens_read", [](const PyEncoder& self) { return self.encoder_.tokens_read; })
      .def_property_readonly("tokens_unknown", [](const PyEncoder& self) { return self.encoder_.tokens_unknown; })
      .def_property_readonly("characters_read", [](const PyEncoder& self) { return self.encoder_.characters_read; })
      .def_property_readonly("words_read", [](const PyEncoder& self) { return self.encoder_.words_read; });
}

}  // namespace fusedrnn::text
