// Bytes of a text file to clean text: valid UTF-8 without a byte-order mark, every line end "\n".
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace fusedrnn::text {

enum class OnInvalid { kError, kReplace, kIgnore };

// What the UTF-8 decoder met that is none: where in the document, and the byte there.
struct InvalidByte {
  uint64_t position;
  uint8_t byte;
};

// Cleans a document that comes in pieces cut anywhere.
//
// Every maximal part of an ill-formed sequence becomes one U+FFFD (kReplace: Unicode 16, section
// 3.9.6, as Python's "replace") or nothing (kIgnore). With kError nothing is read from the bad byte
// on, and invalid() says which it was.
class Utf8Cleaner {
 public:
  explicit Utf8Cleaner(OnInvalid on_invalid) : on_invalid_(on_invalid) {}

  // Appends the clean text of n more bytes to out.
  void add(const uint8_t* bytes, size_t n, std::string& out);
  // Ends the document: what is left of a cut sequence is ill-formed. The next add() begins a new one.
  void finish(std::string& out);
  // Whether a new cleaner could read the document on from here.
  bool between_characters() const { return pending_size_ == 0 && !after_return_; }
  // Goes on in the middle of a document, `position` bytes from its beginning, where a cleaner was
  // between characters.
  void begin_inside(uint64_t position) {
    at_start_ = position == 0;
    position_ = position;
  }

  const std::optional<InvalidByte>& invalid() const { return invalid_; }

 private:
  const uint8_t* add_pending(const uint8_t* p, const uint8_t* end, std::string& out);
  const uint8_t* add_run(const uint8_t* p, const uint8_t* end, std::string& out);
  void bad(uint64_t position, uint8_t byte, std::string& out);

  OnInvalid on_invalid_;
  bool at_start_ = true;       // a byte-order mark may come
  bool after_return_ = false;  // "\r" was read: a "\n" right after it belongs to it
  uint8_t pending_[4] = {};    // the beginning of a sequence that the last piece cut
  size_t pending_size_ = 0;
  uint64_t position_ = 0;  // of the first byte of the present piece in the document
  const uint8_t* piece_ = nullptr;
  std::optional<InvalidByte> invalid_;
};

}  // namespace fusedrnn::text
